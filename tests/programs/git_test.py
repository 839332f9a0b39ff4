#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""git: the same history made on both mallocs has the same hashes, and its repository is sound."""

import random

import programs

ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A. Author",
    "GIT_AUTHOR_EMAIL": "author@example.org",
    "GIT_COMMITTER_NAME": "C. Committer",
    "GIT_COMMITTER_EMAIL": "committer@example.org",
    "GIT_PAGER": "cat",
}
COMMITS = 40


def make_history(stage, git, name, tarn):
    """Makes a repository and returns what git says about it."""
    repository = stage.path(name)
    said = []

    def run(*arguments, moment=0, keep=True, cwd=repository):
        date = f"{1700000000 + moment * 60} +0000"
        env = dict(ENVIRONMENT, GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date)
        done = stage.run([git, *arguments], tarn=tarn, env=env, cwd=cwd)
        if keep:
            said.append((arguments, done.stdout))

    run("init", "-q", "-b", "main", repository, cwd=stage.directory)
    run("config", "pack.threads", "2")
    run("config", "gc.auto", "0")
    chance = random.Random(5)
    files = {}
    for commit in range(COMMITS):
        for _ in range(12):
            path = f"dir{chance.randrange(8)}/file{chance.randrange(60)}.txt"
            lines = files.setdefault(path, [])
            for _ in range(chance.randrange(1, 60)):
                line = " ".join(f"{chance.randrange(1 << 30):x}" for _ in range(chance.randrange(12)))
                lines.insert(chance.randrange(len(lines) + 1), line)
            stage.write(f"{name}/{path}", "\n".join(lines))
        if commit % 10 == 3:
            stage.write(f"{name}/blob{commit}.bin", chance.randbytes(700_000))
        run("add", "-A", keep=False)
        run("commit", "-q", "-m", f"Commit {commit}", moment=commit)
        if commit % 13 == 6:
            run("checkout", "-q", "-b", f"side{commit}")
            stage.write(f"{name}/side{commit}.txt", "side\n" * commit)
            run("add", "-A", keep=False)
            run("commit", "-q", "-m", f"Side {commit}", moment=commit)
            run("checkout", "-q", "main")
            run("merge", "-q", "--no-ff", "-m", f"Merge {commit}", f"side{commit}", moment=commit)
    path = sorted(files)[0]
    for arguments in (
        ("rev-parse", "HEAD"),
        ("log", "--stat", "--graph", "--all"),
        ("log", "-p", "-M", "--format=%H", "-n", "15"),
        ("blame", "--line-porcelain", path),
        ("grep", "-n", "-E", "[0-9]{4}a", "HEAD~10"),
        ("diff", "--patience", "HEAD~20", "HEAD"),
        ("gc", "-q", "--prune=now"),
        ("repack", "-a", "-d", "-f", "-q", "--depth=30", "--window=30"),
        ("fsck", "--full", "--strict"),
        ("count-objects",),
        ("archive", "--format=tar", "HEAD"),
    ):
        run(*arguments)
    clone = stage.path(name + "-clone")
    run("clone", "-q", "--no-local", repository, clone, cwd=stage.directory, keep=False)
    run("fsck", "--full", cwd=clone)
    run("rev-parse", "HEAD", cwd=clone)
    return said


def test(stage):
    git = programs.find_program("git")
    expected = make_history(stage, git, "on-glibc", tarn=False)
    actual = make_history(stage, git, "on-tarn", tarn=True)
    for (arguments, wanted), (_, seen) in zip(expected, actual):
        if wanted != seen:
            raise programs.Difference(
                f"git {' '.join(arguments)} says\n{programs.short(seen)}\ninstead of\n"
                f"{programs.short(wanted)}"
            )
    stage.require_witnessed("git")


if __name__ == "__main__":
    programs.main(test)
