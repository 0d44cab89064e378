package front

import "sync"

// retryBudget lets retries add at most a share to the calls, so that they cannot turn a failure into a flood.
type retryBudget struct {
	share float64

	mu     sync.Mutex
	tokens float64
}

// call notes a call: what earns the right to a retry.
func (b *retryBudget) call() {
	b.mu.Lock()
	b.tokens = min(b.tokens+b.share, 10)
	b.mu.Unlock()
}

// retry reports whether a retry is within the budget, and takes it.
func (b *retryBudget) retry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
