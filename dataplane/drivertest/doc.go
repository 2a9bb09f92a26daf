// Package drivertest is the suite that every driver and every device passes: the contracts of dataplane.Driver and
// dataplane.Device, one property a function, each with a fresh driver or device.
//
// Device holds a device, or a wrapper around one, to its contract. Run holds a driver to its own, and to Device for what
// it opens. A new driver's test is a Harness of a few lines.
package drivertest
