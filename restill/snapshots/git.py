"""data.dvc in git: committed alone, and pushed on top of what others pushed meanwhile.

Nothing else of the person's repository changes, whatever is staged or dirty there: commits are made with an index of
their own (which also means that no commit hook runs), and a push that was overtaken is made again by putting the
commit of data.dvc on top of upstream's, never by a rebase. Two refs a branch remember what was settled:
`refs/restill/agreed/…`, the upstream commit whose data.dvc the local data set is made from, and `refs/restill/done/…`,
the local commit up to which data.dvc is shared or superseded.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from restill.errors import ConfigurationError, PointerMoved, PointerNotShared
from restill.settings import GitSettings
from restill.snapshots.working_copy import POINTER, pointed_version

LOCAL_SECONDS = 60
REMOTE_SECONDS = 180
LOCAL_ATTEMPTS = 8  # against a person's own git commands, which hold the index or move the branch for moments
SHOWN_LINES = 4
PUBLISHED = "The data set itself is published."

_OVERTAKEN = re.compile(r"cannot lock ref|failed to update ref|incorrect old value|reference already exists")
_REFUSED_CREDENTIALS = re.compile(
    r"authentication failed|could not read (username|password)|terminal prompts disabled|permission denied|"
    r"host key verification failed|access denied|returned error: 40[13]",
    re.IGNORECASE,
)
_NO_REPOSITORY = re.compile(r"does not appear to be a git repository|repository .*not found", re.IGNORECASE)
_UNFINISHED = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")
# A caller inside a git hook has these; they would point all of the below somewhere else.
_NOT_INHERITED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_NAMESPACE")
_ASKS_A_PERSON = ("SSH_ASKPASS",)


@dataclass(frozen=True)
class Pushed:
    """What a push came to."""

    commit: str  # where upstream's branch is now
    branch: str  # remote/branch
    note: str = ""  # why the local branch is not there too


def commit_pointer(root: Path, message: str, git: GitSettings) -> str | None:
    """Commit data.dvc as it is, alone, on the branch that is checked out.

    Returns: the commit; None if the branch has exactly this data.dvc already.
    Raises: ConfigurationError outside a git repository or on a detached HEAD; PointerNotShared.
    """
    repository = _Repository.around(root, git)
    branch = repository.branch()
    for _ in _patiently(LOCAL_ATTEMPTS):
        head = repository.commit_of("HEAD")
        # The index first: if this process dies before the branch moves, data.dvc is staged, and not a reversal of it.
        repository.stage_pointer()
        blob = repository.text("rev-parse", f":{repository.path}")
        commit = repository.commit_on(head, blob, message)
        if commit is None:
            return None
        if repository.move(f"refs/heads/{branch}", commit, head, "restill: " + message.partition("\n")[0]):
            return commit
    raise PointerNotShared(f"The branch {branch} kept moving while {POINTER} was committed. {PUBLISHED}")


def push_pointer(root: Path, git: GitSettings) -> Pushed:
    """Push the commits of data.dvc, on top of whatever was pushed meanwhile; the local branch follows if it can.

    It cannot where files that upstream changed are dirty here, or commits of other files wait to be pushed: those are
    the person's, and stay as they are.

    Raises: PointerMoved if upstream's data.dvc has changed since; ConfigurationError for no such remote, refused
        credentials, a detached HEAD; PointerNotShared for refused pushes and lost connections.
    """
    repository = _Repository.around(root, git)
    branch = git.branch or repository.branch()
    repository.check_remote()
    local = repository.commit_of("HEAD")
    if local is None or repository.blob(local) is None:
        raise PointerNotShared(f"{POINTER} is not committed yet, so there is nothing to push.")
    for _ in _patiently(git.attempts):
        upstream = repository.fetch(branch)
        target = repository.on_top(local, upstream, branch)
        if target == upstream or repository.push(target, branch):
            break
    else:
        raise PointerNotShared(
            f"Others pushed to {git.remote}/{branch} each of the {git.attempts} times that {POINTER} was. {PUBLISHED}",
            hint="It is committed here and goes with the next push; data.git.attempts may be raised.",
        )
    repository.settle(f"{git.remote}/{branch}", agreed=target, done=local)
    return Pushed(target, f"{git.remote}/{branch}", repository.follow(local, target, branch))


def was_shared(root: Path, git: GitSettings, version: str) -> bool:
    """Return whether upstream's branch, as it was fetched last, has ever named a data version."""
    repository = _Repository.around(root, git)
    ref = f"refs/restill/upstream/{git.remote}/{git.branch or repository.branch()}"
    return bool(repository.text("log", "-1", "--format=%H", f"-S{version}", ref, "--", POINTER))


def adopted(root: Path, pointer: bytes) -> None:
    """Remember that the local data set is now what upstream's data.dvc names; nothing where there is no git."""
    with contextlib.suppress(ConfigurationError):
        repository = _Repository.around(root, GitSettings())
        local = repository.commit_of("HEAD")
        for ref in repository.text("for-each-ref", "--format=%(refname)", "refs/restill/upstream/").split():
            upstream = repository.commit_of(ref)
            blob = repository.blob(upstream) if upstream else None
            if upstream and local and blob and repository.content(blob) == pointer:
                repository.settle(ref.removeprefix("refs/restill/upstream/"), agreed=upstream, done=local)


@dataclass(frozen=True)
class _Repository:
    """One git repository as data.dvc sees it."""

    root: Path  # the project, which may be a folder of the repository
    path: str  # of data.dvc in the repository
    settings: GitSettings

    @classmethod
    def around(cls, root: Path, settings: GitSettings) -> "_Repository":
        found = cls(root, POINTER, settings).run("rev-parse", "--show-prefix", "--is-inside-work-tree")
        if found.returncode != 0 or not found.stdout.endswith(b"true\n"):
            raise ConfigurationError(
                f"{root} is not in a git repository that can be used: {_said(found)} {PUBLISHED}",
                hint="Clone one with data.dvc in it, or turn data.git.commit and data.git.push off.",
            )
        return cls(root, found.stdout.decode().split("\n")[0] + POINTER, settings)

    def branch(self) -> str:
        found = self.run("symbolic-ref", "--quiet", "--short", "HEAD")
        if found.returncode != 0:
            raise ConfigurationError(
                f"No branch is checked out in {self.root} (HEAD is detached), so {POINTER} cannot be committed. "
                f"{PUBLISHED}",
                hint="git switch BRANCH, then run again. During a rebase, finish it first.",
            )
        return found.stdout.decode().strip()

    def check_remote(self) -> None:
        if self.run("remote", "get-url", self.settings.remote).returncode != 0:
            known = ", ".join(self.text("remote").split()) or "none"
            raise ConfigurationError(
                f"The git repository {self.root} has no remote {self.settings.remote!r} (it has {known}). {PUBLISHED}",
                hint="git remote add …, or correct data.git.remote.",
            )

    def commit_of(self, name: str) -> str | None:
        found = self.run("rev-parse", "--quiet", "--verify", f"{name}^{{commit}}")
        return found.stdout.decode().strip() if found.returncode == 0 else None

    def blob(self, commit: str) -> str | None:
        """Return the object of data.dvc in a commit; None if it has none."""
        found = self.run("rev-parse", "--quiet", "--verify", f"{commit}:{self.path}")
        return found.stdout.decode().strip() if found.returncode == 0 else None

    def content(self, blob: str) -> bytes:
        return self.do("cat-file", "blob", blob)

    def stage_pointer(self) -> None:
        for _ in _patiently(LOCAL_ATTEMPTS):
            staged = self.run("update-index", "--add", "--", POINTER)
            if staged.returncode == 0:
                return
            if b"index.lock" not in staged.stderr:
                break
        raise PointerNotShared(
            f"git could not stage {POINTER}: {_said(staged)} {PUBLISHED}",
            hint="Another git command may be running, or one that died left its lock file.",
        )

    def commit_on(self, parent: str | None, blob: str, message: str, *, like: str | None = None) -> str | None:
        """Make a commit that differs from its parent in data.dvc alone; None if there is no difference.

        Args:
            like: commit whose author and date it keeps.
        """
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            self.do("read-tree", parent or "--empty", extra=index)
            self.do("update-index", "--add", "--cacheinfo", f"100644,{blob},{self.path}", extra=index)
            tree = self.do("write-tree", "--missing-ok", extra=index).decode().strip()  # partial clones lack some
        if parent is not None and tree == self.text("rev-parse", f"{parent}^{{tree}}"):
            return None
        author = {"GIT_AUTHOR_NAME": self.settings.author_name, "GIT_AUTHOR_EMAIL": self.settings.author_email}
        if like is not None:
            name, email, date = self.text("show", "-s", "--format=%an%x00%ae%x00%ad", "--date=raw", like).split("\0")
            author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email, "GIT_AUTHOR_DATE": date}
        parents = ["-p", parent] if parent is not None else []
        made = self.do("commit-tree", tree, *parents, "-F", "-", stdin=message.strip().encode() + b"\n", extra=author)
        return made.decode().strip()

    def move(self, ref: str, to: str, expected: str | None, reason: str) -> bool:
        """Move a ref if it still is where it was."""
        return self.run("update-ref", "-m", reason, ref, to, expected or "0" * len(to)).returncode == 0

    def settle(self, name: str, *, agreed: str, done: str) -> None:
        """Remember what was settled with a branch, named remote/branch."""
        self.do("update-ref", f"refs/restill/agreed/{name}", agreed)
        self.do("update-ref", f"refs/restill/done/{name}", done)

    def _ref(self, branch: str) -> str:
        return f"{self.settings.remote}/{branch}"

    def fetch(self, branch: str) -> str | None:
        """Return where upstream's branch is now; None if there is no such branch."""
        ref = f"refs/restill/upstream/{self._ref(branch)}"
        quiet = ("--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-maintenance", "--no-write-fetch-head")
        fetched = self.run("fetch", *quiet, self.settings.remote, f"+refs/heads/{branch}:{ref}", seconds=REMOTE_SECONDS)
        if fetched.returncode == 0:
            return self.commit_of(ref)
        if b"couldn't find remote ref" in fetched.stderr:
            self.run("update-ref", "-d", ref)
            return None
        raise self._not_reached(fetched, f"look at {self._ref(branch)}")

    def on_top(self, local: str, upstream: str | None, branch: str) -> str:
        """Return the commit to push: upstream with the data.dvc of the local commits that it lacks, one by one."""
        if upstream is None:
            return local  # a new branch, or an empty remote
        found = self.run("merge-base", local, upstream)
        if found.returncode != 0:
            raise ConfigurationError(
                f"The branch here and {self._ref(branch)} have no commit in common. {PUBLISHED}",
                hint="Correct data.git.remote or data.git.branch. A shallow clone needs: git fetch --unshallow",
            )
        base = found.stdout.decode().strip()
        mine, theirs = self.blob(local), self.blob(upstream)
        if mine is None or theirs == mine:
            return upstream
        agreed = self.commit_of(f"refs/restill/agreed/{self._ref(branch)}")
        settled = agreed and self._is_ancestor(agreed, upstream) and self._is_ancestor(base, agreed)
        if theirs != self.blob(agreed if agreed and settled else base):
            raise self._moved(theirs, branch)
        if base == upstream and self._only_pointer(upstream, local):
            return local
        done = self.commit_of(f"refs/restill/done/{self._ref(branch)}")
        left_out = [f"^{done}"] if done and self._is_ancestor(done, local) else []
        pending = self.text(
            "rev-list", "--reverse", "--first-parent", local, f"^{upstream}", *left_out, "--", ":/" + self.path
        )
        tip = upstream
        for commit in pending.split():
            blob = self.blob(commit)
            if blob is not None:
                tip = self._repeat(commit, blob, tip) or tip
        return self.commit_on(tip, mine, self._plain_message(mine)) or tip

    def push(self, commit: str, branch: str) -> bool:
        """Return whether upstream's branch took the commit; False if another one came first."""
        quiet = ("--porcelain", "--no-follow-tags", "--recurse-submodules=no")
        pushed = self.run("push", *quiet, self.settings.remote, f"{commit}:refs/heads/{branch}", seconds=REMOTE_SECONDS)
        if pushed.returncode == 0:
            return True
        answer = pushed.stdout.decode(errors="replace")
        if "[rejected]" in answer or ("[remote rejected]" in answer and _OVERTAKEN.search(answer)):
            return False
        raise self._not_reached(pushed, f"push to {self._ref(branch)}")

    def follow(self, local: str, target: str, branch: str) -> str:
        """Move the local branch to what was pushed, or return why it stays."""
        if local == target:
            return ""
        ref = f"refs/heads/{branch}"
        stays = f"Your branch stays where it was; {self._ref(branch)} has the commit of {POINTER}"
        if self.run("symbolic-ref", "--quiet", "HEAD").stdout.decode().strip() != ref:
            return ""  # another branch is pushed to than is checked out: nothing is expected to follow
        if not self._only_pointer(target, local):
            return f"{stays}: commits here are not pushed. Next: git pull --rebase"
        if any(self.commit_of(name) for name in _UNFINISHED):
            return f"{stays}: a merge is not finished here. Next: finish it, then git pull --rebase"
        self.run("update-index", "-q", "--refresh")  # else files that were only touched count as changed
        two_trees = ("read-tree", "-m", "-u")  # as a checkout: refused as a whole if it would touch a change
        if self.run(*two_trees, local, target, top=True).returncode != 0:
            return (
                f"{stays}: files that upstream changed are changed here too. Next: commit them, then git pull --rebase"
            )
        if not self.move(ref, target, local, f"restill: follow {self._ref(branch)}"):
            self.run(*two_trees, target, local, top=True)
            return f"{stays}: the branch moved meanwhile."
        return ""

    def _repeat(self, commit: str, blob: str, parent: str) -> str | None:
        """Make a commit's data.dvc again on another parent; its words only if they were about nothing else."""
        if self._changed(f"{commit}^", commit) == [self.path]:
            return self.commit_on(parent, blob, self.text("show", "-s", "--format=%B", commit), like=commit)
        return self.commit_on(parent, blob, self._plain_message(blob))

    def _plain_message(self, blob: str) -> str:
        return f"Name data version {pointed_version(self.content(blob), POINTER)[:12]}"

    def _only_pointer(self, base: str, tip: str) -> bool:
        """Return whether the commits that a tip has over a base change data.dvc and nothing else; no merges."""
        commits = [line.split() for line in self.text("rev-list", "--parents", tip, f"^{base}").splitlines()]
        return all(
            len(parents) == 1 and self._changed(parents[0], commit) == [self.path] for commit, *parents in commits
        )

    def _changed(self, before: str, after: str) -> list[str]:
        found = self.run("diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after)
        return found.stdout.decode(errors="surrogateescape").split("\0")[:-1] if found.returncode == 0 else []

    def _is_ancestor(self, old: str, new: str) -> bool:
        return self.run("merge-base", "--is-ancestor", old, new).returncode == 0

    def _moved(self, theirs: str | None, branch: str) -> PointerMoved | PointerNotShared:
        if theirs is None:
            return PointerNotShared(
                f"{self._ref(branch)} has no {POINTER} any more. {PUBLISHED}",
                hint="Somebody deleted it there; bring it back, or push it yourself.",
            )
        pointer = self.content(theirs)
        version = pointed_version(pointer, f"{POINTER} of {self._ref(branch)}")
        return PointerMoved(
            f"{self._ref(branch)} names data version {version[:12]} by now: somebody else changed the data set.",
            pointer=pointer,
            hint="The same ingestion on top of that version brings both together.",
        )

    def _not_reached(
        self, finished: subprocess.CompletedProcess[bytes], what: str
    ) -> ConfigurationError | PointerNotShared:
        said = _said(finished)
        if _REFUSED_CREDENTIALS.search(said):
            return ConfigurationError(
                f"git was refused when it tried to {what}: {said} {PUBLISHED}",
                hint="Nobody is there to type a password: use a credential helper, a token or an SSH key without one.",
            )
        if _NO_REPOSITORY.search(said):
            return ConfigurationError(
                f"git found no repository when it tried to {what}: {said} {PUBLISHED}",
                hint=f"git remote set-url {self.settings.remote} …",
            )
        return PointerNotShared(
            f"git could not {what}: {said} {PUBLISHED}",
            hint=f"{POINTER} is committed here and goes with the next push.",
        )

    def text(self, *arguments: str) -> str:
        return self.do(*arguments).decode(errors="surrogateescape").strip()

    def do(self, *arguments: str, stdin: bytes | None = None, extra: dict[str, str] | None = None) -> bytes:
        """Run git and return what it printed.

        Raises: PointerNotShared with what git said.
        """
        finished = self.run(*arguments, stdin=stdin, extra=extra)
        if finished.returncode != 0:
            raise PointerNotShared(f"git {arguments[0]} failed in {self.root}: {_said(finished)} {PUBLISHED}")
        return finished.stdout

    def run(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        extra: dict[str, str] | None = None,
        seconds: float = LOCAL_SECONDS,
        top: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git where nobody can answer a question.

        Args:
            top: in the repository's own folder instead of the project's.
        Raises: ConfigurationError if there is no git; PointerNotShared if it takes too long.
        """
        environment = {
            name: value for name, value in os.environ.items() if name not in (*_NOT_INHERITED, *_ASKS_A_PERSON)
        }
        environment |= {
            "GIT_TERMINAL_PROMPT": "0",
            "GCM_INTERACTIVE": "never",
            "SSH_ASKPASS_REQUIRE": "never",
            "LC_ALL": "C",
            "GIT_COMMITTER_NAME": self.settings.author_name,
            "GIT_COMMITTER_EMAIL": self.settings.author_email,
            **(extra or {}),
        }
        where = self.root / ("../" * self.path.count("/")) if top else self.root
        command = ["git", "-C", str(where), *arguments]
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # no terminal for ssh to ask at, and one group to end
            )
        except OSError as error:
            raise ConfigurationError(
                f"git cannot be started: {error.strerror or error}. {PUBLISHED}", hint="Install git."
            ) from error
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise PointerNotShared(
                f"git {arguments[0]} did not end within {seconds:.0f} seconds. {PUBLISHED}",
                hint="Try it by hand: the remote may hang, or ask for something.",
            ) from error
        finally:
            if process.poll() is None:  # its helpers too: they would hold the pipes open
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
                process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def _said(finished: subprocess.CompletedProcess[bytes]) -> str:
    """Return what git and the remote said, in one line."""
    refs = [line for line in finished.stdout.decode(errors="replace").splitlines() if line.startswith("!")]
    lines = [line for line in finished.stderr.decode(errors="replace").splitlines() if not line.startswith("hint:")]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "remote:"))]
    # A hook that refuses here has no such mark, and git adds only that it failed.
    told = lines if all(line.startswith("error: failed to push") for line in telling) else telling
    said = [" ".join(line.removeprefix("remote:").split()) for line in [*told, *refs]]
    return (
        "; ".join([line for line in said if line][:SHOWN_LINES] or [f"exit code {finished.returncode}"]).rstrip(".")
        + "."
    )


def _patiently(attempts: int) -> Iterator[int]:
    """Yield the attempts, with longer and longer pauses between them."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(secrets.SystemRandom().uniform(0.5, 1) * min(5.0, 0.1 * 2**attempt))  # clients spread out
        yield attempt
