// Package device holds devices by user and topic, and pushes to them: an audience's event
// is a job that pages through the devices whose topics match.
package device
