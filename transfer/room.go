package transfer

// The room, in bytes, that files may need in the worst case, so that a copy that has begun cannot end for lack of it. In
// the worst case chunks of zeroes and of data alternate: two records for two chunks, one of them with a digest.

func recordsRoom(g Geometry) int64 {
	pair := int64(2*recordHeadSize + g.Algorithm.Size())
	return (g.Chunks() + 1) / 2 * pair
}

// checkpointRoom is for a copy in batches: each append has a head, cuts a run and loses part of a sector. A copy that is
// cut off and resumed, or so slow that less than a few batches are recorded at a time, makes appends of its own: so many
// that room which is not reserved is used after a day.
func checkpointRoom(g Geometry) int64 {
	const spareAppends = 16 << 10
	appends := g.Chunks()/appendChunks(g) + g.Chunks()/windowChunks + 1 + min(spareAppends, g.Chunks()+64)
	return checkpointHeadSize + recordsRoom(g) + appends*(appendHeadSize+sector+recordHeadSize)
}

func manifestRoom(g Geometry) int64 {
	return manifestHeadSize + recordsRoom(g) + endRecordSize
}
