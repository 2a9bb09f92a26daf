package transfer

// The room, in bytes, that files may need in the worst case, so that a copy that has begun cannot end for lack of it. In
// the worst case chunks of zeroes and of data alternate: two records for two chunks, one of them with a digest.

func recordsRoom(g Geometry) int64 {
	pair := int64(2*recordHeadSize + g.Algorithm.Size())
	return (g.Chunks() + 1) / 2 * pair
}

// checkpointRoom is for a copy in batches: each append has a head, cuts a run and loses part of a sector. The copy may
// be cut off and resumed spareAppends times before room that is not reserved is used.
func checkpointRoom(g Geometry) int64 {
	const spareAppends = 64
	appends := g.Chunks()/batchChunks(g) + g.Chunks()/windowChunks + spareAppends
	return checkpointHeadSize + recordsRoom(g) + appends*(appendHeadSize+sector+recordHeadSize)
}

func manifestRoom(g Geometry) int64 {
	return manifestHeadSize + recordsRoom(g) + endRecordSize
}
