package migration

import "github.com/cvold/cvold/agent/catalog"

// StepTouches are the touches that the step table declares for a state.
func StepTouches(s catalog.MigrationState) []Touch { return steps[s].touches }

// CallTouches are the touches that the table of the target's calls declares.
func CallTouches() map[string][]Touch { return calls }

// AllTouches are all declared touches, of both halves.
func AllTouches() map[Touch]bool {
	all := map[Touch]bool{touchAccept: true, touchAbort: true}
	for _, s := range steps {
		for _, t := range s.touches {
			all[t] = true
		}
	}
	for _, c := range calls {
		for _, t := range c {
			all[t] = true
		}
	}
	return all
}

// States are those of the step table.
func States() (all []catalog.MigrationState) {
	for s := range steps {
		all = append(all, s)
	}
	return all
}
