package front

import (
	"net/http"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// observe tells a Rollout how a request of one of its variants ended. Began is when it was sent; an answer that is not
// whole broke off half way.
func (x *exchange) observe(r *http.Request, seen *statusWriter, began time.Time, whole bool) {
	status := seen.status
	switch {
	case status == traffic.StatusGone, seen.gone, !whole && r.Context().Err() != nil: // the caller left: says nothing of the variant
	case status == http.StatusSwitchingProtocols:
	case x.answered.IsZero() && status < http.StatusInternalServerError: // the caller's fault: the variant was never asked, or gave up on it
	default:
		x.rollout.Observe(time.Now(), x.variant, status >= http.StatusInternalServerError || !whole, x.answered.Sub(began))
	}
}
