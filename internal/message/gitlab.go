package message

import (
	"strings"
	"time"

	"github.com/harkhq/hark/internal/template"
)

// The payloads are described at docs.gitlab.com/user/project/integrations/webhook_events.

func isGitLab(p *payload) bool {
	return p.has("object_kind") && (p.has("project.path_with_namespace") || p.has("project_id"))
}

func sayGitLab(p *payload) *Message {
	var m *Message
	switch p.text("object_kind") {
	case "push", "tag_push":
		m = gitlabPush(p)
	case "merge_request":
		m = gitlabChanged(p, "merge request", "!")
	case "issue", "work_item":
		m = gitlabChanged(p, "issue", "#")
	case "note":
		m = gitlabNote(p)
	case "release":
		m = gitlabRelease(p)
	case "pipeline":
		m = gitlabPipeline(p)
	default:
		m = &Message{Title: line(p.project(), ": ", bold(strings.ReplaceAll(p.text("object_kind"), "_", " ")), " by ", p.gitlabUser())}
	}
	m.Footer = "GitLab"
	return m
}

func (p *payload) gitlabUser() Span {
	return bold(first(p.text("user.name"), p.text("user_name"), p.text("user.username"), p.text("user_username"), "somebody"))
}

func (p *payload) project() Span {
	return link(first(p.text("project.path_with_namespace"), p.text("project.name"), "a project"), p.text("project.web_url"))
}

// noCommit is the hash of no commit, in SHA-1 and SHA-256 alike.
func noCommit(hash string) bool { return strings.Trim(hash, "0") == "" }

func gitlabPush(p *payload) *Message {
	name, isTag := strings.CutPrefix(p.text("ref"), "refs/tags/")
	name = strings.TrimPrefix(name, "refs/heads/")
	web := p.text("project.web_url")
	place := link(name, web+"/-/tree/"+escapePath(name)).emphasised()
	before, after, commits := p.text("before"), p.text("after"), p.list("commits")
	switch {
	case noCommit(after):
		return &Message{Title: line(p.gitlabUser(), " deleted ", branchOrTag(isTag), " ", bold(name), " of ", p.project()), Severity: Warning}
	case isTag:
		return &Message{Title: line(p.gitlabUser(), " pushed the tag ", place, " to ", p.project())}
	case len(commits) == 0:
		what := " moved the branch "
		if noCommit(before) {
			what = " created the branch "
		}
		return &Message{Title: line(p.gitlabUser(), what, place, " of ", p.project())}
	}
	total, compare, to := max(p.number("total_commits_count"), len(commits)), web+"/-/compare/"+before+"..."+after, " to "
	if noCommit(before) {
		compare, to = web+"/-/commits/"+escapePath(name), " to the new branch "
	}
	m := &Message{Title: line(p.gitlabUser(), " pushed ", link(count(total, "commit", "commits"), compare), to, place, " of ", p.project())}
	// The list has the newest last, and at most 20 (the push event's page).
	shown := commits[max(0, len(commits)-maxCommits):]
	for _, c := range shown {
		c := p.in(c)
		m.Lines = append(m.Lines, commitLine(c.text("id"), c.text("url"), first(c.text("message"), c.text("title")), c.text("author.name"), p.text("user_name"), p.text("user_username")))
	}
	if more := total - len(shown); more > 0 {
		m.Lines = append(m.Lines, line(link("… and "+count(more, "more commit", "more commits"), compare)))
	}
	return m
}

// gitlabActs are GitLab's actions in the past tense.
var gitlabActs = map[string]string{"open": "opened", "close": "closed", "reopen": "reopened", "merge": "merged", "update": "updated",
	"approved": "approved", "approval": "approved", "unapproved": "took the approval back from", "unapproval": "took the approval back from", "create": "created", "delete": "deleted"}

func gitlabAct(p *payload) string {
	action := first(p.text("object_attributes.action"), p.text("action"), "update")
	return first(gitlabActs[action], strings.ReplaceAll(action, "_", " "))
}

func gitlabChanged(p *payload, what, mark string) *Message {
	verb := gitlabAct(p)
	it := link(mark+p.text("object_attributes.iid")+" "+template.Short(p.text("object_attributes.title"), 120), p.text("object_attributes.url"))
	m := &Message{Title: line(p.gitlabUser(), " ", text(verb), " "+what+" ", it, " in ", p.project())}
	switch {
	case verb == "merged" || verb == "approved" || verb == "closed" && what == "issue":
		m.Severity = Good
	case verb == "closed":
		m.Severity = Warning
	}
	if verb == "opened" || verb == "reopened" {
		m.Lines = excerpt(p.text("object_attributes.description"))
	}
	if from, to := p.text("object_attributes.source_branch"), p.text("object_attributes.target_branch"); from != "" && to != "" {
		m.Fields = append(m.Fields, Field{"Branch", line(code(from), " → ", code(to))})
	}
	return m
}

func gitlabNote(p *payload) *Message {
	on := line("something")
	switch {
	case p.has("merge_request"):
		on = line("merge request ", link("!"+p.text("merge_request.iid")+" "+template.Short(p.text("merge_request.title"), 120), p.text("merge_request.url")))
	case p.has("issue"):
		on = line("issue ", link("#"+p.text("issue.iid")+" "+template.Short(p.text("issue.title"), 120), p.text("issue.url")))
	case p.has("commit"):
		on = line("commit ", code(head(p.text("commit.id"), shownHash)).linked(p.text("commit.url")))
	case p.has("snippet"):
		on = line("the snippet ", text(p.text("snippet.title")))
	}
	title := line(p.gitlabUser(), " ", link("commented", p.text("object_attributes.url")), " on ")
	title = append(append(title, on...), line(" in ", p.project())...)
	return &Message{Title: title, Lines: excerpt(p.text("object_attributes.note"))}
}

func gitlabRelease(p *payload) *Message {
	m := &Message{Title: line("The release ", link(first(p.text("name"), p.text("tag")), p.text("url")).emphasised(), " of ", p.project(), " was ", text(gitlabAct(p)))}
	if p.text("action") == "create" {
		m.Severity, m.Lines = Good, excerpt(p.text("description"))
	}
	return m
}

func gitlabPipeline(p *payload) *Message {
	says, severity := "is "+strings.ReplaceAll(p.text("object_attributes.status"), "_", " "), Info
	switch p.text("object_attributes.status") {
	case "success":
		says, severity = "passed", Good
	case "failed":
		says, severity = "failed", Bad
	case "canceled":
		says, severity = "was cancelled", Warning
	case "skipped":
		says = "was skipped"
	}
	id := p.text("object_attributes.id")
	it := link("Pipeline #"+id, first(p.text("object_attributes.url"), p.text("project.web_url")+"/-/pipelines/"+id)).emphasised()
	m := &Message{Title: line(it, " ", text(says), " on ", bold(p.text("object_attributes.ref")), " of ", p.project()), Severity: severity}
	if p.has("commit.id") {
		m.Lines = []Line{commitLine(p.text("commit.id"), p.text("commit.url"), p.text("commit.message"), p.text("commit.author.name"))}
	}
	var failed []string
	for _, b := range p.list("builds") {
		if b := p.in(b); b.text("status") == "failed" {
			failed = append(failed, b.text("name"))
		}
	}
	if len(failed) > 0 && severity == Bad {
		m.Fields = append(m.Fields, Field{"Failed jobs", line(text(strings.Join(failed, ", ")))})
	}
	if s := p.number("object_attributes.duration"); s > 0 {
		m.Fields = append(m.Fields, Field{"Time", line((time.Duration(s) * time.Second).String())})
	}
	return m
}
