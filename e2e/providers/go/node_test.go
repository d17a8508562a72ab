package providers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/scheme"
)

// node is the judge program that holds the libraries for Node.
type node struct {
	mu  sync.Mutex // guards a question and its answer
	in  io.Writer
	out *bufio.Scanner
}

type question struct {
	Library string  `json:"library"`
	Do      string  `json:"do"`
	Secret  string  `json:"secret"`
	At      int64   `json:"at"`
	Request message `json:"request"`
}

type message struct {
	Method  string      `json:"method"`
	URL     string      `json:"url"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body"`
}

type reply struct {
	OK      bool
	Why     string
	Headers [][2]string
	Error   string
}

// startNode starts the judge, which ends with the test.
func startNode(t *testing.T) *node {
	t.Helper()
	if _, err := os.Stat("../npm/node_modules/.installed"); err != nil {
		t.Fatal("the libraries for Node are missing: run make setup")
	}
	cmd := exec.CommandContext(t.Context(), "node", "judge.mjs")
	cmd.Dir, cmd.Stderr = "../npm", os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	return &node{in: in, out: lines}
}

func (n *node) ask(q question) (a reply, err error) {
	text, err := json.Marshal(q)
	if err != nil {
		return a, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.in.Write(append(text, '\n')); err != nil {
		return a, err
	}
	if !n.out.Scan() {
		return a, fmt.Errorf("the judge ended: %v", n.out.Err())
	}
	if err := json.Unmarshal(n.out.Bytes(), &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func asMessage(r *scheme.Request) message {
	m := message{Method: r.Method, URL: r.URL, Body: r.Body, Headers: [][2]string{}}
	if m.Body == nil {
		m.Body = []byte{}
	}
	for _, f := range r.Header {
		m.Headers = append(m.Headers, [2]string{f.Name, f.Value})
	}
	return m
}

// judge makes j one whose library runs in Node. A broken judge is a panic, so that it
// never looks like a refusal.
func (n *node) judge(j judge, signs bool) judge {
	library := j.library
	if signs {
		j.sign = func(r *scheme.Request, at time.Time) error {
			a, err := n.ask(question{library, "sign", j.secret, at.Unix(), asMessage(r)})
			for _, h := range a.Headers {
				r.Header.Set(h[0], h[1])
			}
			return err
		}
	}
	j.verify = func(r *scheme.Request) error {
		a, err := n.ask(question{library, "verify", j.secret, time.Now().Unix(), asMessage(r)})
		if err != nil {
			panic(err)
		}
		if !a.OK {
			return errors.New("refused: " + a.Why)
		}
		return nil
	}
	j.library += " (Node)"
	return j
}

func nodeJudges(n *node) []judge {
	standard := func(library, name, prefix string) judge {
		return n.judge(judge{library: library, scheme: name, secret: whsec, bodies: onlyJSON,
			headers: []string{prefix + "id", prefix + "timestamp", prefix + "signature"}, lenient: sameNumber(prefix + "timestamp")}, true)
	}
	sendgrid := n.judge(judge{library: "@sendgrid/eventwebhook", scheme: "sendgrid", secret: sendgridKey, bodies: onlyJSON,
		headers: []string{sendgridSignature, sendgridTimestamp}, lenient: onlyIn(sendgridSignature)}, false)
	sendgrid.sign = signSendgrid
	return []judge{
		n.judge(judge{library: "@octokit/webhooks-methods", scheme: "github", secret: githubSecret, bodies: anyText, headers: []string{"X-Hub-Signature-256"}}, true),
		n.judge(judge{library: "stripe", scheme: "stripe", secret: stripeSecret, bodies: onlyJSON, headers: []string{"Stripe-Signature"}, lenient: sameStripe}, true),
		n.judge(judge{library: "@slack/bolt", scheme: "slack", secret: slackSecret, bodies: anyText,
			headers: []string{"X-Slack-Signature", "X-Slack-Request-Timestamp"}, lenient: sameNumber("X-Slack-Request-Timestamp")}, true),
		n.judge(judge{library: "@shopify/shopify-api", scheme: "shopify", secret: shopifySecret, bodies: onlyJSON, headers: []string{"X-Shopify-Hmac-SHA256"}}, true),
		n.judge(judge{library: "twilio", scheme: "twilio", secret: twilioToken, bodies: onlyForm, headers: []string{"X-Twilio-Signature"}, url: true, lenient: sameTwilio}, true),
		n.judge(judge{library: "twilio", scheme: "twilio", secret: twilioToken, bodies: anyText, headers: []string{"X-Twilio-Signature"}, url: true, lenient: sameTwilio}, true),
		sendgrid,
		standard("standardwebhooks", "standard", "webhook-"),
		standard("standardwebhooks", "gitlab", "webhook-"),
		standard("svix", "standard", "svix-"),
	}
}
