package faulty

// keepLate keeps a copy of a write that lands after a later call.
func (d *Device) keepLate(p []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = append(d.late, lateWrite{append([]byte(nil), p...), off})
}

// takeLate takes the writes that were kept before this call began.
func (d *Device) takeLate() []lateWrite {
	d.mu.Lock()
	defer d.mu.Unlock()
	late := d.late
	d.late = nil
	return late
}

// land carries out late writes. Their errors go nowhere, as they would in a drive.
func (d *Device) land(late []lateWrite) {
	for _, w := range late {
		_, _ = d.dev.WriteAt(w.p, w.off)
	}
}

// remember keeps what the units of a range hold now, if a rule will want it.
func (d *Device) remember(off, n int64) {
	if n == 0 || !d.plan.has(readsStale) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	size, err := d.dev.Size()
	if err != nil {
		return
	}
	for s := off / d.unit; s*d.unit < off+n; s++ {
		p := make([]byte, min(d.unit, size-s*d.unit))
		if _, err := d.dev.ReadAt(p, s*d.unit); err == nil {
			d.old[s] = p
		}
	}
}

// makeStale replaces what was read at off by what the units held before their last write.
func (d *Device) makeStale(p []byte, off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := off / d.unit; s*d.unit < off+int64(len(p)); s++ {
		old := d.old[s]
		if old == nil {
			continue
		}
		at := s*d.unit - off
		if at < 0 {
			old, at = old[-at:], 0
		}
		copy(p[at:], old)
	}
}
