package policy

import "runtime"

// turn is how many steps of a load are made before others may go on: a load is
// background work, and who waits for a processor next to it is a request. A
// step takes up to two microseconds. Without this a request may wait for the
// ten milliseconds after which the scheduler steps in.
const turn = 1024

// yield lets others go on, every so many steps.
func yield(step int) {
	if step%turn == turn-1 {
		runtime.Gosched()
	}
}
