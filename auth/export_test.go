package auth

// Joined is how many wait for a renewal of the grant that somebody else has begun.
func (r *Rotator) Joined(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[id]; f != nil && f.ended.IsZero() {
		return int(f.sharers.Load())
	}
	return 0
}

// Queued is how many renewals wait for their turn at a provider.
func (r *Rotator) Queued(provider string) int {
	l := r.lane(provider)
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asking) + len(l.waiting)
}

// Draining says whether Drain has begun.
func (r *Rotator) Draining() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.draining
}
