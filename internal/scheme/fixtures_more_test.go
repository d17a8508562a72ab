package scheme

var moreFixtures = map[string][]fixture{}
