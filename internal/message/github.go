package message

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/harkhq/hark/internal/template"
)

// The payloads are described at docs.github.com/webhooks/webhook-events-and-payloads.

// maxCommits is how many commits a push lists, and maxCommitText how much of each.
const (
	maxCommits    = 5
	maxCommitText = 80
	shownHash     = 7
	// An excerpt of what somebody wrote.
	excerptLines, excerptChars = 6, 600
)

func isGitHub(p *payload) bool {
	return p.has("repository.full_name") && (p.has("sender.login") || p.has("pusher.name")) ||
		p.has("zen", "hook_id") || p.has("organization.login", "sender.login") || p.has("sender.node_id", "sender.login", "action")
}

func sayGitHub(p *payload) *Message {
	var m *Message
	switch {
	case p.has("ref", "commits", "before"):
		m = githubPush(p)
	case p.has("zen", "hook_id"):
		m = githubPing(p)
	case p.has("pull_request", "review"):
		m = githubReview(p)
	case p.has("pull_request", "comment"):
		m = githubComment(p, "pull_request", "pull request")
	case p.has("pull_request", "action"):
		m = githubPullRequest(p)
	case p.has("issue", "comment"):
		what := "issue"
		if p.has("issue.pull_request") {
			what = "pull request"
		}
		m = githubComment(p, "issue", what)
	case p.has("issue", "action"):
		m = githubIssue(p)
	case p.has("release", "action"):
		m = githubRelease(p)
	case p.has("workflow_run", "action") && !p.has("deployment") && !p.has("reviewers"):
		m = githubRun(p)
	case p.has("action", "starred_at") || p.at("action") == "deleted" && hasKey(p.body, "starred_at"):
		m = githubStar(p)
	case p.has("forkee"):
		m = &Message{Title: line(p.sender(), " forked ", p.repo(), " to ", link(p.text("forkee.full_name"), p.text("forkee.html_url")))}
	case p.has("ref", "ref_type"):
		m = githubRef(p)
	default:
		m = githubOther(p)
	}
	if m != nil && m.Footer == "" {
		m.Footer = "GitHub"
	}
	return m
}

func hasKey(v any, key string) bool {
	object, _ := v.(map[string]any)
	_, ok := object[key]
	return ok
}

func (p *payload) sender() Span {
	return bold(first(p.text("sender.login"), p.text("pusher.name"), "somebody")).linked(p.text("sender.html_url"))
}

func (p *payload) repo() Span {
	return link(first(p.text("repository.full_name"), p.text("organization.login")), p.text("repository.html_url"))
}

func githubPush(p *payload) *Message {
	commits, ref := p.list("commits"), p.text("ref")
	name, isTag := strings.CutPrefix(ref, "refs/tags/")
	if !isTag {
		name = strings.TrimPrefix(ref, "refs/heads/")
	}
	repoURL := p.text("repository.html_url")
	place := link(name, repoURL+"/tree/"+escapePath(name))
	switch {
	case p.yes("deleted"):
		return &Message{Title: line(p.sender(), " deleted ", branchOrTag(isTag), " ", bold(name), " of ", p.repo()), Severity: Warning}
	case isTag:
		return &Message{Title: line(p.sender(), " pushed the tag ", place.emphasised(), " to ", p.repo())}
	case len(commits) == 0:
		what := " moved the branch "
		if p.yes("created") {
			what = " created the branch "
		}
		return &Message{Title: line(p.sender(), what, place.emphasised(), " of ", p.repo())}
	}
	pushed := " pushed "
	if p.yes("forced") {
		pushed = " force-pushed "
	}
	to := " to "
	if p.yes("created") {
		to = " to the new branch "
	}
	m := &Message{Title: line(p.sender(), pushed, link(count(len(commits), "commit", "commits"), p.text("compare")), to, place.emphasised(), " of ", p.repo())}
	if p.yes("forced") {
		m.Severity = Warning
	}
	for i, c := range commits {
		if i == maxCommits && len(commits) > maxCommits+1 {
			m.Lines = append(m.Lines, line(link("… and "+count(len(commits)-i, "more commit", "more commits"), p.text("compare"))))
			break
		}
		c := p.in(c)
		m.Lines = append(m.Lines, commitLine(c.text("id"), c.text("url"), c.text("message"),
			first(c.text("author.username"), c.text("author.name")), p.text("sender.login"), p.text("pusher.name")))
	}
	return m
}

// escapePath escapes a branch's name as a part of a path; slashes stay.
func escapePath(name string) string { return (&url.URL{Path: name}).EscapedPath() }

// commitLine is a commit's short hash and first line, and who wrote it if that is none
// of those who were named before.
func commitLine(id, page, message, author string, named ...string) Line {
	subject, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	l := line(code(head(id, shownHash)).linked(page), " ", Span{Text: clean(subject, maxCommitText)})
	for _, n := range named {
		if strings.EqualFold(n, author) {
			author = ""
		}
	}
	if author != "" {
		l = append(l, Span{Text: " – " + clean(author, maxCommitText)})
	}
	return l
}

func head(s string, n int) string { return s[:min(n, len(s))] }

func (s Span) emphasised() Span {
	s.Bold = true
	return s
}

func branchOrTag(isTag bool) string {
	if isTag {
		return "the tag"
	}
	return "the branch"
}

func githubPing(p *payload) *Message {
	m := &Message{Title: line("GitHub is connected"), Severity: Good}
	if where := p.repo(); where.Text != "" {
		m.Title = line(where, " is connected")
	}
	var events []string
	for _, e := range p.list("hook.events") {
		events = append(events, scalar(e))
	}
	switch n := len(events); {
	case n == 1 && events[0] == "*":
		m.Lines = []Line{line("Every event will be sent.")}
	case n > 0:
		m.Lines = []Line{line("It sends ", text(strings.Join(events[:min(n, 20)], ", ")), ".")}
	}
	return m
}

// number is "#12 Title" of an issue or pull request, linked.
func (p *payload) numbered(at string) Span {
	return link("#"+p.text(at+".number")+" "+template.Short(p.text(at+".title"), 120), p.text(at+".html_url"))
}

// acts are what people did, in the past tense, where GitHub's word for it is another.
var acts = map[string]string{
	"synchronize": "pushed to", "ready_for_review": "marked as ready for review", "converted_to_draft": "turned into a draft",
	"auto_merge_enabled": "enabled auto-merge of", "auto_merge_disabled": "disabled auto-merge of", "enqueued": "queued", "dequeued": "took out of the queue",
}

func act(action string) string {
	return first(acts[action], strings.ReplaceAll(action, "_", " "))
}

// change says what an action did to an issue or pull request beyond its verb.
func (p *payload) change(what string, it Span) (Line, bool) {
	label, who := p.text("label.name"), first(p.text("assignee.login"), p.text("requested_reviewer.login"), p.text("requested_team.name"))
	tail := func(parts ...any) Line {
		return line(append(append([]any{p.sender()}, parts...), " "+what+" ", it, " in ", p.repo())...)
	}
	switch action := p.text("action"); {
	case action == "labeled" && label != "":
		return tail(" added the label ", bold(label), " to"), true
	case action == "unlabeled" && label != "":
		return tail(" took the label ", bold(label), " from"), true
	case action == "assigned" && who != "":
		return tail(" assigned ", bold(who), " to"), true
	case action == "unassigned" && who != "":
		return tail(" unassigned ", bold(who), " from"), true
	case action == "review_requested" && who != "":
		return tail(" asked ", bold(who), " to review"), true
	}
	return nil, false
}

func githubPullRequest(p *payload) *Message {
	m, verb := &Message{}, act(p.text("action"))
	switch {
	case p.text("action") == "closed" && p.yes("pull_request.merged"):
		verb, m.Severity = "merged", Good
	case p.text("action") == "closed":
		m.Severity = Warning
	}
	what := "pull request"
	if p.yes("pull_request.draft") && verb == "opened" {
		what = "draft pull request"
	}
	it := p.numbered("pull_request")
	if title, ok := p.change(what, it); ok {
		m.Title = title
		return m
	}
	m.Title = line(p.sender(), " ", text(verb), " "+what+" ", it, " in ", p.repo())
	if verb == "opened" || verb == "reopened" || verb == "marked as ready for review" {
		m.Lines = excerpt(p.text("pull_request.body"))
	}
	if from, to := p.text("pull_request.head.ref"), p.text("pull_request.base.ref"); from != "" && to != "" && verb != "pushed to" {
		m.Fields = append(m.Fields, Field{"Branch", line(code(from), " → ", code(to))})
	}
	if p.has("pull_request.changed_files") && verb != "closed" {
		m.Fields = append(m.Fields, Field{"Changes", line("+" + count(p.number("pull_request.additions"), "line", "lines") + ", −" + template.Text(p.number("pull_request.deletions")) +
			" in " + count(p.number("pull_request.changed_files"), "file", "files"))})
	}
	return m
}

func githubIssue(p *payload) *Message {
	m, verb, how := &Message{}, act(p.text("action")), ""
	if verb == "closed" {
		m.Severity = Good
		if p.text("issue.state_reason") == "not_planned" {
			m.Severity, how = Info, " as not planned"
		}
	}
	it := p.numbered("issue")
	if title, ok := p.change("issue", it); ok {
		m.Title = title
		return m
	}
	m.Title = line(p.sender(), " ", text(verb), " issue ", it, " in ", p.repo(), text(how))
	if verb == "opened" || verb == "reopened" {
		m.Lines = excerpt(p.text("issue.body"))
		var names []string
		for _, l := range p.list("issue.labels") {
			names = append(names, p.in(l).text("name"))
		}
		if len(names) > 0 {
			m.Fields = append(m.Fields, Field{"Labels", line(text(strings.Join(names, ", ")))})
		}
	}
	return m
}

func githubComment(p *payload, at, what string) *Message {
	on := link("commented", p.text("comment.html_url"))
	switch p.text("action") {
	case "edited":
		on.Text = "edited a comment"
	case "deleted":
		return &Message{Title: line(p.sender(), " deleted a comment on "+what+" ", p.numbered(at), " in ", p.repo())}
	}
	m := &Message{Title: line(p.sender(), " ", on, " on "+what+" ", p.numbered(at), " in ", p.repo()), Lines: excerpt(p.text("comment.body"))}
	if path := p.text("comment.path"); path != "" {
		m.Fields = append(m.Fields, Field{"File", line(code(path))})
	}
	return m
}

func githubReview(p *payload) *Message {
	verb, m := "reviewed", &Message{}
	switch strings.ToLower(p.text("review.state")) {
	case "approved":
		verb, m.Severity = "approved", Good
	case "changes_requested":
		verb, m.Severity = "asked for changes to", Warning
	case "dismissed":
		verb = "dismissed a review of"
	}
	m.Title = line(p.sender(), " ", link(verb, p.text("review.html_url")), " pull request ", p.numbered("pull_request"), " in ", p.repo())
	m.Lines = excerpt(p.text("review.body"))
	return m
}

func githubRelease(p *payload) *Message {
	tag, name := p.text("release.tag_name"), p.text("release.name")
	if name == "" {
		name = tag
	} else if !strings.Contains(name, strings.TrimPrefix(tag, "v")) {
		name += " (" + tag + ")"
	}
	what, it := "release", link(name, p.text("release.html_url")).emphasised()
	if p.yes("release.prerelease") {
		what = "pre-release"
	}
	m := &Message{Title: line(p.sender(), " ", text(act(p.text("action"))), " the "+what+" ", it, " of ", p.repo())}
	if p.text("action") == "released" {
		m.Title = line(p.sender(), " released ", it, " of ", p.repo())
	}
	switch p.text("action") {
	case "published", "released", "prereleased":
		m.Severity, m.Lines = Good, excerpt(p.text("release.body"))
	}
	return m
}

// runs say how a workflow's run ended.
var runs = map[string]struct {
	says     string
	severity Severity
}{
	"success": {"passed", Good}, "failure": {"failed", Bad}, "cancelled": {"was cancelled", Warning}, "timed_out": {"timed out", Bad},
	"skipped": {"was skipped", Info}, "action_required": {"needs somebody to act", Warning}, "startup_failure": {"could not start", Bad},
	"neutral": {"ended", Info}, "stale": {"went stale", Info},
}

func githubRun(p *payload) *Message {
	says, severity := "is "+strings.ReplaceAll(p.text("action"), "_", " "), Info
	switch r, ok := runs[p.text("workflow_run.conclusion")]; {
	case ok:
		says, severity = r.says, r.severity
	case p.text("action") == "requested":
		says = "was requested"
	}
	name := first(p.text("workflow_run.name"), p.text("workflow.name"), "Workflow") + " #" + p.text("workflow_run.run_number")
	branch := p.text("workflow_run.head_branch")
	m := &Message{Title: line(link(name, p.text("workflow_run.html_url")).emphasised(), " ", text(says), " on ", bold(branch), " of ", p.repo()), Severity: severity}
	if branch == "" {
		m.Title = line(link(name, p.text("workflow_run.html_url")).emphasised(), " ", text(says), " in ", p.repo())
	}
	if id := p.text("workflow_run.head_sha"); id != "" {
		m.Lines = []Line{commitLine(id, p.text("repository.html_url")+"/commit/"+id, first(p.text("workflow_run.head_commit.message"), p.text("workflow_run.display_title")),
			first(p.text("workflow_run.head_commit.author.name"), p.text("workflow_run.actor.login")))}
	}
	return m
}

func githubStar(p *payload) *Message {
	verb := " starred "
	if p.text("action") == "deleted" {
		verb = " took the star from "
	}
	m := &Message{Title: line(p.sender(), verb, p.repo())}
	if n := p.number("repository.stargazers_count"); n > 0 {
		m.Title = append(m.Title, Span{Text: ": it has " + count(n, "star", "stars")})
	}
	return m
}

func githubRef(p *payload) *Message {
	verb, severity := " created ", Info
	if strings.HasSuffix(p.event.Topic, "delete") || p.has("pusher_type") && !hasKey(p.body, "master_branch") {
		verb, severity = " deleted ", Warning
	}
	return &Message{Title: line(p.sender(), verb, branchOrTag(p.text("ref_type") == "tag"), " ", bold(p.text("ref")), " of ", p.repo()), Severity: severity}
}

// githubOther has no words of its own for an event: its name must do, and a link to
// what it is about.
func githubOther(p *payload) *Message {
	name := "something"
	if _, rest, ok := strings.Cut(p.event.Topic, "."); ok {
		name = words(strings.ReplaceAll(rest, ".", "_"))
	}
	if action := words(p.text("action")); action != "" && !strings.HasSuffix(name, action) {
		name += " " + action
	}
	m := &Message{Title: line(p.repo(), ": ", bold(name), " by ", p.sender())}
	if p.repo().Text == "" {
		m.Title = line(bold(name), " by ", p.sender())
	}
	if it := p.subject(); it.Text != "" {
		m.Title = append(m.Title, Span{Text: ": "}, it)
	}
	return m
}

// subject is what an event is about: the member with a page of its own that is none of
// those that every event has.
func (p *payload) subject() Span {
	body, _ := p.body.(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(body)) {
		switch name {
		case "sender", "repository", "organization", "installation", "enterprise", "changes":
			continue
		}
		o := p.in(body[name])
		if says := first(o.text("title"), o.text("name"), o.text("summary"), o.text("app.name"), o.text("login")); says != "" && o.has("html_url") {
			return link(template.Short(says, 120), o.text("html_url"))
		}
	}
	return Span{}
}

// excerpt is the beginning of what somebody wrote, without the comments that Markdown hides.
func excerpt(markdown string) []Line {
	var b strings.Builder
	for rest := head(markdown, 1<<16); rest != ""; {
		before, hidden, _ := strings.Cut(rest, "<!--")
		b.WriteString(before)
		_, rest, _ = strings.Cut(hidden, "-->")
	}
	return lines(b.String(), excerptLines, excerptChars)
}
