// Package integration holds the black-box tests: the built binary, a real
// Envoy with the bootstrap of package envoy, real issuers, a trace collector.
// They know the contract and nothing inside.
package integration
