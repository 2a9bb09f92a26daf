package transfer

// Unfinished is where the target does not hold what the source held, after a copy with this checkpoint, Config.Unread and
// Config.Unreadable that may have ended anywhere: the next copy's Config.Unread. Written as a file, it has ddrescue try all of
// that. It says nothing of a target that was written to by others. ErrTooLarge if it is too much for a map. The copy has ended.
func Unfinished(c *Checkpoint, unread, unreadable *ErrorMap) (*ErrorMap, error) {
	m, g := &ErrorMap{untried: true}, c.header.Geometry
	unreadable.mu.Lock()
	defer unreadable.mu.Unlock()
	for next := int64(0); ; {
		first, end := c.gap(next)
		if first >= end {
			return m, nil
		}
		next = end
		off, _ := g.Range(first)
		if err := m.addUnfinished(ErrorRange{Offset: off, Length: g.Bytes(first, end-first)}, unread, unreadable); err != nil {
			return nil, err
		}
	}
}

// addUnfinished takes in what is missing of chunks that are not verified: of those that were salvaged and are durable what could
// not be read, of others what was missing before. The lock of unreadable is held.
func (m *ErrorMap) addUnfinished(gap ErrorRange, unread, unreadable *ErrorMap) error {
	next := gap.Offset
	for _, s := range append(clip(unreadable.settled, gap), ErrorRange{Offset: gap.End()}) {
		before := ErrorRange{Offset: next, Length: s.Offset - next}
		missing := []ErrorRange{before}
		if unread != nil {
			missing = unread.within(before)
		}
		for _, r := range append(missing, clip(unreadable.ranges, s)...) {
			if r.Length == 0 {
				continue
			}
			if err := m.Add(r); err != nil {
				return err
			}
		}
		next = s.End()
	}
	return nil
}
