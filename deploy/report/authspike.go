// Package authspike reports sign-in attempts to authspike: in batches, in the background, at most 10,000 waiting.
package authspike

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// Attempt is one sign-in attempt; Outcome may be empty if Reason is Clerk's error code.
type Attempt struct {
	ID         string `json:"id"`
	OccurredAt int64  `json:"occurred_at"`
	Outcome    string `json:"outcome,omitempty"`
	Reason     string `json:"reason,omitempty"`
	IP         string `json:"ip,omitempty"`
	Identifier string `json:"identifier,omitempty"`
	UserAgent  string `json:"user_agent,omitempty"`
}

var (
	attempts = make(chan Attempt, 10_000)
	Dropped  atomic.Int64 // for your own metrics
	client   = http.Client{Timeout: 5 * time.Second}
)

// Report returns at once, and neither delays nor breaks the sign-in. Start `go Send()` once.
func Report(a Attempt) {
	a.ID, a.OccurredAt = rand.Text(), time.Now().UnixMilli()
	select {
	case attempts <- a:
	default:
		Dropped.Add(1)
	}
}

func Send() {
	for first := range attempts {
		batch := []Attempt{first}
		time.Sleep(time.Second) // others may join
		for len(batch) < 500 && len(attempts) > 0 {
			batch = append(batch, <-attempts)
		}
		for body, _ := json.Marshal(batch); !post(body); time.Sleep(5 * time.Second) {
		}
	}
}

// post says whether the batch is done with: taken, or refused for good. The ids make a repeat harmless.
func post(body []byte) bool {
	request, err := http.NewRequest("POST", os.Getenv("ATTEMPTS_URL")+"/v1/attempts", bytes.NewReader(body))
	if err != nil {
		return true
	}
	request.Header.Set("authorization", "Bearer "+os.Getenv("AUTHSPIKE_ATTEMPTS_TOKEN"))
	request.Header.Set("content-type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode < 500 && answer.StatusCode != 429
}
