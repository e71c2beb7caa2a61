"""data.dvc in a real Git repository with a real remote, where others commit and push at the same time."""

import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from data_sets import add, git, make_project, write_partition

from restill import snapshots
from restill.errors import ConfigurationError, PointerMoved, PointerNotShared
from restill.settings import GitSettings
from restill.snapshots import POINTER, records
from restill.snapshots import git as pointers

COMMIT = GitSettings(commit=True)
PUSH = GitSettings(push=True)


def pointer(number: int) -> bytes:
    return f"outs:\n- md5: {number:032x}.dir\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: data\n".encode()


def shown(folder: Path, commit: str, path: str = POINTER) -> bytes:
    return (git(folder, "show", f"{commit}:{path}") + "\n").encode()


@pytest.fixture
def upstream(tmp_path: Path) -> Path:
    bare = tmp_path / "upstream.git"
    git(tmp_path, "init", "--quiet", "--bare", str(bare))
    first = make_project(tmp_path / "first")
    (first / "code.py").write_text("one\n")
    (first / "text.md").write_text("one\n")
    (first / POINTER).write_bytes(pointer(1))
    git(first, "add", ".")
    git(first, "commit", "--quiet", "-m", "first")
    git(first, "push", "--quiet", str(bare), "HEAD:main")
    return bare


@pytest.fixture
def clone(tmp_path: Path, upstream: Path) -> Path:
    git(tmp_path, "clone", "--quiet", str(upstream), "clone")
    return tmp_path / "clone"


@pytest.fixture
def rival(tmp_path: Path, upstream: Path) -> Path:
    git(tmp_path, "clone", "--quiet", str(upstream), "rival")
    return tmp_path / "rival"


def push_file(folder: Path, name: str, content: str) -> str:
    git(folder, "pull", "--quiet", "--rebase")
    (folder / name).write_text(content)
    git(folder, "add", "--", name)
    git(folder, "commit", "--quiet", "-m", f"rival: {name}")
    git(folder, "push", "--quiet")
    return git(folder, "rev-parse", "HEAD")


def push_new(root: Path, number: int, settings: GitSettings = PUSH) -> pointers.Pushed:
    (root / POINTER).write_bytes(pointer(number))
    pointers.commit_pointer(root, f"version {number}", settings)
    return pointers.push_pointer(root, settings)


def make_untidy(root: Path) -> str:
    """Leave staged, dirty and untracked things about, and one file that is both staged and dirty."""
    (root / "code.py").write_text("staged\n")
    (root / "added.py").write_text("added\n")
    git(root, "add", "code.py", "added.py")
    (root / "code.py").write_text("staged, then dirty\n")
    (root / "untracked.py").write_text("untracked\n")
    git(root, "rm", "--quiet", "--cached", ".gitignore")
    return tidiness(root)


def tidiness(root: Path) -> str:
    ours = {f" M {POINTER}", f"M  {POINTER}", f"?? {POINTER}"}
    lines = [line for line in git(root, "status", "--porcelain").splitlines() if line not in ours]
    return "\n".join([*lines, git(root, "diff"), git(root, "diff", "--cached")])


def test_only_the_pointer_is_committed_whatever_else_lies_about(clone):
    before = make_untidy(clone)
    (clone / POINTER).write_bytes(pointer(2))
    commit = pointers.commit_pointer(clone, "Name version 2\n\nbecause", COMMIT)
    assert git(clone, "rev-parse", "main") == commit
    assert git(clone, "show", "--format=", "--name-only", commit) == POINTER
    assert git(clone, "show", "-s", "--format=%an <%ae> %cn|%B", commit) == (
        "Restill <restill@localhost> Restill|Name version 2\n\nbecause"
    )
    assert shown(clone, commit) == pointer(2)
    assert tidiness(clone) == before
    assert POINTER not in git(clone, "status", "--porcelain")
    assert pointers.commit_pointer(clone, "again", COMMIT) is None
    assert git(clone, "rev-parse", "main") == commit


def test_a_first_commit_and_a_project_in_a_folder_of_the_repository(tmp_path):
    top = make_project(tmp_path / "top")
    root = top / "models" / "pairs"
    root.mkdir(parents=True)
    (root / POINTER).write_bytes(pointer(1))
    commit = pointers.commit_pointer(root, "one", COMMIT)
    assert git(top, "ls-tree", "-r", "--name-only", commit) == f"models/pairs/{POINTER}"


def test_a_hook_of_the_person_does_not_run_and_no_signature_is_asked_for(clone):
    hook = clone / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ngit stash --all\nexit 1\n")
    hook.chmod(hook.stat().st_mode | stat.S_IEXEC)
    git(clone, "config", "commit.gpgSign", "true")
    (clone / POINTER).write_bytes(pointer(2))
    assert pointers.commit_pointer(clone, "two", COMMIT)


def test_a_busy_index_is_waited_for_and_then_named(clone):
    (clone / POINTER).write_bytes(pointer(2))
    lock = clone / ".git" / "index.lock"
    lock.touch()
    timer = threading.Timer(0.7, lock.unlink)
    timer.start()
    assert pointers.commit_pointer(clone, "two", COMMIT)
    timer.join()
    (clone / POINTER).write_bytes(pointer(3))
    lock.touch()
    head = git(clone, "rev-parse", "HEAD")
    with pytest.raises(PointerNotShared, match=r"index\.lock.*is published"):
        pointers.commit_pointer(clone, "three", COMMIT)
    assert git(clone, "rev-parse", "HEAD") == head


def test_a_push_into_a_quiet_remote_is_the_commit_itself(clone, upstream):
    before = make_untidy(clone)
    pushed = push_new(clone, 2)
    assert pushed == pointers.Pushed(git(clone, "rev-parse", "HEAD"), "origin/main")
    assert git(upstream, "rev-parse", "main") == pushed.commit
    assert tidiness(clone) == before
    assert pointers.push_pointer(clone, PUSH).commit == pushed.commit  # again: nothing to do


def test_a_push_goes_on_top_of_other_work_and_the_branch_follows(clone, rival, upstream):
    theirs = push_file(rival, "text.md", "two\n")
    before = make_untidy(clone)
    pushed = push_new(clone, 2)
    assert pushed.note == ""
    assert git(upstream, "log", "--format=%s", "main").split("\n") == ["version 2", "rival: text.md", "first"]
    assert git(upstream, "rev-parse", "main^") == theirs
    assert git(clone, "rev-parse", "main") == pushed.commit
    assert (clone / "text.md").read_text() == "two\n"
    assert tidiness(clone) == before


@pytest.mark.parametrize("name", ["code.py", "untracked.py"], ids=["dirty", "untracked"])
def test_a_file_that_both_changed_is_left_and_the_branch_with_it(clone, rival, upstream, name):
    push_file(rival, name, "theirs\n")
    before = make_untidy(clone)
    mine = (clone / name).read_text()
    pushed = push_new(clone, 2)
    assert "git pull --rebase" in pushed.note
    assert git(upstream, "rev-parse", "main") == pushed.commit
    assert (clone / name).read_text() == mine
    assert tidiness(clone) == before
    assert git(clone, "log", "--format=%s", "main").split("\n") == ["version 2", "first"]
    # The next one still goes on top, though the branch here has a commit of its own.
    push_new(clone, 3)
    assert git(upstream, "log", "--format=%s", "main").split("\n") == [
        "version 3",
        "version 2",
        f"rival: {name}",
        "first",
    ]
    assert shown(upstream, "main") == pointer(3)
    assert shown(upstream, "main^") == pointer(2)


def test_unpushed_work_of_the_person_is_never_pushed(clone, rival, upstream):
    (clone / "private.py").write_text("not yet\n")
    git(clone, "add", "private.py")
    git(clone, "commit", "--quiet", "-m", "not yet")
    mine = git(clone, "rev-parse", "HEAD")
    pushed = push_new(clone, 2)
    assert "commits here are not pushed" in pushed.note
    assert git(upstream, "log", "--format=%s", "main").split("\n") == ["version 2", "first"]
    assert git(clone, "rev-parse", "main^") == mine
    push_file(rival, "text.md", "two\n")
    push_new(clone, 3)
    assert git(upstream, "log", "--format=%s", "main").split("\n") == [
        "version 3",
        "rival: text.md",
        "version 2",
        "first",
    ]
    git(clone, "pull", "--quiet", "--rebase")  # what the note says
    assert git(clone, "log", "--format=%s", "main").split("\n")[:2] == ["not yet", "version 3"]


def test_versions_committed_while_the_remote_was_away_are_all_pushed(clone, rival, upstream):
    away = upstream.with_name("away.git")
    upstream.rename(away)
    for number in (2, 3):
        with pytest.raises(ConfigurationError, match=r"found no repository.*is published"):
            push_new(clone, number)
    away.rename(upstream)
    push_file(rival, "text.md", "two\n")
    push_new(clone, 4)
    assert [shown(upstream, f"main~{back}") for back in range(4)] == [pointer(4), pointer(3), pointer(2), pointer(1)]
    assert git(upstream, "log", "--format=%s", "-3", "main").split("\n") == ["version 4", "version 3", "version 2"]


def test_a_pointer_that_moved_is_handed_over_and_settled_by_adoption(clone, rival, upstream):
    push_file(rival, POINTER, pointer(7).decode())
    before = make_untidy(clone)
    with pytest.raises(PointerMoved, match="names data version 000000000000") as moved:
        push_new(clone, 2)
    assert moved.value.pointer == pointer(7)
    with pytest.raises(PointerMoved):  # as long as nobody adopted it
        push_new(clone, 3)
    (clone / POINTER).write_bytes(moved.value.pointer)
    pointers.adopted(clone, moved.value.pointer)
    pushed = push_new(clone, 8)
    log = git(upstream, "log", "--format=%s", "main").split("\n")
    assert log == ["version 8", f"rival: {POINTER}", "first"]  # 2 and 3 were made from another version
    assert shown(upstream, "main") == pointer(8)
    assert git(clone, "rev-parse", "main") == pushed.commit
    assert tidiness(clone) == before
    push_file(rival, POINTER, pointer(9).decode())
    with pytest.raises(PointerMoved) as again:
        push_new(clone, 10)
    assert again.value.pointer == pointer(9)


def test_a_pointer_put_back_upstream_has_moved_too(clone, rival, upstream):
    """What was adopted is the base, not what the branches once had in common."""
    push_file(rival, POINTER, pointer(7).decode())
    with pytest.raises(PointerMoved):
        push_new(clone, 2)
    pointers.adopted(clone, pointer(7))
    push_file(rival, POINTER, pointer(1).decode())
    with pytest.raises(PointerMoved) as moved:
        push_new(clone, 8)
    assert moved.value.pointer == pointer(1)


def test_the_same_version_from_both_sides_is_no_conflict(clone, rival, upstream):
    theirs = push_file(rival, POINTER, pointer(2).decode())
    assert push_new(clone, 2) == pointers.Pushed(theirs, "origin/main")
    assert git(clone, "rev-parse", "main") == theirs


def test_another_branch_may_be_pushed_to(clone, upstream):
    git(clone, "switch", "--quiet", "-c", "work")
    settings = GitSettings(push=True, branch="main")
    push_new(clone, 2, settings)
    assert shown(upstream, "main") == pointer(2)
    assert git(upstream, "branch", "--format=%(refname:short)") == "main"
    push_new(clone, 3, PUSH)  # a branch that the remote does not have yet
    assert shown(upstream, "work") == pointer(3)


def test_a_competitor_between_fetch_and_push_only_costs_a_try(clone, rival, upstream, monkeypatch):
    push = pointers._Repository.push
    tries = 0

    def overtaken(self: pointers._Repository, commit: str, branch: str) -> bool:
        nonlocal tries
        tries += 1
        if tries <= 2:
            push_file(rival, f"other-{tries}.md", "x\n")
        return push(self, commit, branch)

    monkeypatch.setattr(pointers._Repository, "push", overtaken)
    push_new(clone, 2)
    assert tries == 3
    assert shown(upstream, "main") == pointer(2)
    assert len(git(upstream, "log", "--format=%s", "main").split("\n")) == 4
    tries = -10
    with pytest.raises(PointerNotShared, match="each of the 2 times"):
        push_new(clone, 3, GitSettings(push=True, attempts=2))


def test_a_competitor_with_the_pointer_between_fetch_and_push_is_noticed(clone, rival, monkeypatch):
    push = pointers._Repository.push

    def overtaken(self: pointers._Repository, commit: str, branch: str) -> bool:
        push_file(rival, POINTER, pointer(7).decode())
        return push(self, commit, branch)

    monkeypatch.setattr(pointers._Repository, "push", overtaken)
    with pytest.raises(PointerMoved) as moved:
        push_new(clone, 2)
    assert moved.value.pointer == pointer(7)


def install_hook(repository: Path, name: str, script: str) -> None:
    hooks = repository / ("hooks" if repository.suffix == ".git" else ".git/hooks")
    hooks.mkdir(exist_ok=True)
    (hooks / name).write_text(f"#!/bin/sh\n{script}\n")
    (hooks / name).chmod(0o755)


@pytest.mark.parametrize("side", ["server", "here"])
def test_a_hook_that_refuses_is_quoted(clone, upstream, side):
    where, name = (upstream, "pre-receive") if side == "server" else (clone, "pre-push")
    install_hook(where, name, "echo 'tickets only' >&2; exit 1")
    with pytest.raises(PointerNotShared, match=r"(?s)tickets only.*is published") as refused:
        push_new(clone, 2)
    assert "next push" in refused.value.hint
    assert shown(clone, "main") == pointer(2)


def test_what_is_not_set_up_is_named(clone, tmp_path):
    with pytest.raises(ConfigurationError, match=r"no remote 'nowhere' \(it has origin\).*is published"):
        push_new(clone, 2, GitSettings(push=True, remote="nowhere"))
    git(clone, "checkout", "--quiet", "--detach")
    with pytest.raises(ConfigurationError, match=r"HEAD is detached.*is published"):
        push_new(clone, 3)
    with pytest.raises(ConfigurationError, match=r"not in a git repository.*is published"):
        push_new(tmp_path, 2)
    unrelated = make_project(tmp_path / "unrelated")
    git(unrelated, "remote", "add", "origin", str(tmp_path / "upstream.git"))
    with pytest.raises(ConfigurationError, match="no commit in common"):
        push_new(unrelated, 2, GitSettings(push=True, branch="main"))


def test_refused_credentials_end_at_once_and_are_named(clone):
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    git(clone, "remote", "set-url", "origin", f"http://127.0.0.1:{server.server_port}/x.git")
    with pytest.raises(ConfigurationError, match=r"was refused.*is published"):
        push_new(clone, 2)
    server.shutdown()


def test_a_git_that_hangs_is_ended(clone, monkeypatch):
    install_hook(clone, "pre-push", "sleep 60")
    monkeypatch.setattr(pointers, "REMOTE_SECONDS", 1)
    with pytest.raises(PointerNotShared, match="did not end within 1 seconds"):
        push_new(clone, 2)
    assert not subprocess.run(["pgrep", "-f", f"{clone}/.git/hooks"], capture_output=True, check=False).stdout


def test_a_git_hook_that_calls_it_does_not_misdirect_it(clone, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    (clone / POINTER).write_bytes(pointer(2))
    commit = pointers.commit_pointer(clone, "two", COMMIT)
    monkeypatch.undo()
    assert git(clone, "rev-parse", "main") == commit


def test_sharing_five_versions_while_another_keeps_pushing_loses_nothing(clone, rival, upstream, store):
    """Linear, complete, and each commit names a version whose objects the remote holds."""
    git(clone, "rm", "--quiet", POINTER)  # so that the first version is one of its own
    git(clone, "commit", "--quiet", "-m", "no data yet")
    git(clone, "push", "--quiet")
    stop = threading.Event()
    theirs: list[str] = []

    def keep_pushing() -> None:
        while not stop.is_set():
            started = time.monotonic()
            subprocess.run(["git", "pull", "--quiet", "--rebase"], cwd=rival, check=False, capture_output=True)
            name = f"other-{len(theirs)}.md"
            (rival / name).write_text("x\n")
            git(rival, "add", name)
            git(rival, "commit", "--quiet", "-m", name)
            theirs.append(name)
            subprocess.run(["git", "push", "--quiet"], cwd=rival, check=False, capture_output=True)
            stop.wait(2 * (time.monotonic() - started))  # on a slow machine the other one needs longer, too

    competitor = threading.Thread(target=keep_pushing)
    competitor.start()
    try:
        made = []
        for number in range(5):
            made.append(add(clone, store, f"b{number}").version)
            shared = snapshots.share(clone, store, f"Add batch b{number}", GitSettings(push=True, attempts=100))
            assert shared.pushed.note == ""
    finally:
        stop.set()
        competitor.join()
    git(rival, "pull", "--quiet", "--rebase")
    git(rival, "push", "--quiet")
    assert git(upstream, "rev-list", "--merges", "main") == ""
    named = [
        snapshots.working_copy.pointed_version(shown(upstream, commit), commit)
        for commit in git(upstream, "rev-list", "--reverse", "main", "--", POINTER).split()[2:]
    ]
    assert named == made
    subjects = git(upstream, "log", "--format=%s", "main").split("\n")
    assert len(theirs) >= 3
    assert sorted(subject for subject in subjects if subject.endswith(".md")) == sorted(theirs)
    for version in named:
        assert snapshots.verify(clone, store, version) == []


def test_two_machines_that_add_at_once_both_end_up_in_the_data_set(clone, rival, upstream, store):
    for folder in (clone, rival):
        git(folder, "rm", "--quiet", POINTER)
    git(clone, "commit", "--quiet", "-m", "no data yet")
    git(clone, "push", "--quiet")
    git(rival, "reset", "--quiet", "--hard")
    git(rival, "pull", "--quiet", "--rebase")
    (rival / POINTER).unlink(missing_ok=True)
    add(clone, store, "start")
    snapshots.share(clone, store, "start", PUSH)
    git(rival, "pull", "--quiet", "--rebase")
    add(clone, store, "aa")
    add(rival, store, "bb")
    snapshots.share(rival, store, "Add bb", PUSH)
    with pytest.raises(PointerMoved) as moved:
        snapshots.share(clone, store, "Add aa", PUSH)
    adopted = snapshots.adopt(clone, store, moved.value.pointer)
    assert adopted.batches == ("bb", "start")
    with snapshots.changing(clone, store):
        write_partition(clone, "aa")
        both = snapshots.publish(clone, store, reason="again on top")
    shared = snapshots.share(clone, store, "Add aa", PUSH)
    assert "pushed to origin/main" in shared.sentence
    assert both.batches == ("aa", "bb", "start")
    assert shown(upstream, "main") == (clone / POINTER).read_bytes()
    assert git(upstream, "log", "--format=%s", "-3", "main").split("\n") == ["Add aa", "Add bb", "start"]
    assert git(clone, "status", "--porcelain") == ""
    git(rival, "pull", "--quiet", "--rebase")
    assert snapshots.pull(rival, store).batches == both.batches


def test_nothing_is_shared_unless_configured_and_never_what_the_remote_lacks(clone, store):
    (clone / POINTER).unlink()
    published = add(clone, store, "aa")
    head = git(clone, "rev-parse", "HEAD")
    assert snapshots.share(clone, store, "x", GitSettings()) is None
    assert git(clone, "rev-parse", "HEAD") == head
    store.delete(records.key(published.version))
    for item in store.list("dvc/"):
        store.delete(item.key)
    shared = snapshots.share(clone, store, "x", COMMIT)  # pushes the objects again before it commits
    assert shared.sentence.startswith("data.dvc is committed as ")
    assert snapshots.verify(clone, store, deep=True) == []
    assert os.environ.get("GIT_TERMINAL_PROMPT") is None
