// Package harness starts the parts of a whole Sallyport on loopback: the built
// binary, a real Envoy with the bootstrap of package envoy, and an upstream
// that echoes. The demo and the black-box tests are made of it.
//
// Every process that it starts ends with this one, also when this one is
// killed (on Linux). Nothing here protects anything, and everything listens on
// 127.0.0.1.
//
// A process and its output are in process.go and log.go; what a part needs in
// order to start is in sallyport.go, envoy.go and upstream.go.
package harness
