package transfer

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

var campaignSeed = flag.Uint64("transfer.seed", 0, "the seed of the campaigns; 0 draws one")

// campaign runs rounds until they have come to so many points: all with CVOLD_CAMPAIGN=full, else a slice of them. Each round
// has its own randomness, says how many points it made, and counts what it met. What runs at the same time takes turns as it
// likes, so the same seed makes much the same run, not the very same.
func campaign(t *testing.T, full, slice int, round func(r *rand.Rand, met map[string]int) (points int)) {
	t.Helper()
	seed := *campaignSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	points := slice
	if os.Getenv("CVOLD_CAMPAIGN") == "full" {
		points = full
	}
	met, done, n := map[string]int{}, 0, uint64(0)
	defer func() { // also when a round ends the test
		t.Logf("%d points in %d rounds, -transfer.seed=%d%s", done, n, seed, counted(met))
	}()
	for ; done < points && !t.Failed(); n++ {
		done += round(rand.New(rand.NewPCG(seed, n)), met)
	}
}

func counted(met map[string]int) string {
	var s strings.Builder
	for _, name := range slices.Sorted(maps.Keys(met)) {
		fmt.Fprintf(&s, ", %s %d", name, met[name])
	}
	return s.String()
}
