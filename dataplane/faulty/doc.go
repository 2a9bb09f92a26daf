// Package faulty makes devices and drivers that fail on order, for tests.
//
// Wrap puts a Plan of faults in front of a device: calls that fail, wait, tear, get lost, land elsewhere, come twice or
// late, read stale or corrupt, or lie about zeroes. WrapCrash holds back what was not synced and can cut the power.
// Driver does the like for a driver's calls. Memory is a device to put underneath. Without faults each of them keeps the
// whole contract of dataplane.Device: drivertest holds them to it.
package faulty

// Sector is the unit, in bytes, that storage writes as a whole: a torn write and a power cut tear between sectors only.
const Sector = 512
