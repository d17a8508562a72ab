// Package testenv runs the built hark binary as an operator would, and speaks
// to it only over the wire: the black-box tests in e2e and the benchmarks in
// bench share it. It knows no package of the server.
//
//	bin, err := testenv.Build(ctx, dir)
//	s, err := testenv.Start(ctx, bin, testenv.Setup{Data: dir, Flags: []string{"--store-memtable=262144"}})
//	err = s.API().Call(ctx, "POST", "/v1/events", event, &answer)
//	err = s.Kill()            // as a power cut of the process
//	s, err = s.Again(ctx)     // same folder, same address, same key
//
// Every process it starts dies with this one, and it ends processes by their id
// only.
package testenv
