"""Lints the repository: python3 tidy.py ROOT. One line a finding; exits 1 when there is any.

Checks: include arrows between packages, files that no CMakeLists.txt names, length of files and functions, words and
constructs that the style does not allow, include guards, and comments in the contract.
"""
import re
import sys
from pathlib import Path

TOP = ("core", "storage", "server", "client", "merge", "tests")
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
STAGES = ("intake", "vet", "jobs", "queue", "release", "pull", "review", "http")

# What the code of a top-level package may include of the others.
ARROWS = {
    "core": {"core"},
    "storage": {"storage", "core"},
    "server": {"server", "storage", "core"},
    "client": {"client", "core"},
    "merge": {"merge", "core"},
    "tests": set(TOP),
}
# Third-party headers and the only folders that may include them.
FENCED = [
    (re.compile(r"(torch|ATen|c10)/"), ("merge/", "tests/")),
    (re.compile(r"grpc(pp)?/|.*\.grpc\.pb\.h$"), ("core/rpc/", "server/", "client/", "merge/worker/", "tests/")),
    (re.compile(r"rocksdb/"), ("storage/rocksdb/", "tests/")),
    (re.compile(r"core/rpc/"), ("core/rpc/", "server/", "client/", "merge/worker/", "tests/")),
    (re.compile(r"absl/synchronization/mutex\.h"), ("core/base/mutex.h",)),
]
BANNED_ANYWHERE = [
    (re.compile(r"\b(FIXME|XXX)\b"), "say it in a TODO(owner), or do it"),
    (re.compile(r"\bTODO\b(?!\([\w.@-]+\))"), "TODO has no owner: TODO(name): ..."),
    (re.compile(r"(?<![\w.])/(work|root|home)/\w"), "path of one machine"),
    (re.compile(r"\.\./shared\b"), "path outside the repository"),
    (re.compile(r"\b[Ii]ssues? #?\d+\b|\bissues/\d"), "the code's readers do not have the tracker"),
    (re.compile(r"\b(the|per|our|its) brief\b", re.I), "word about how the code came to be"),
]
BANNED_CODE = [
    (re.compile(r"\busing namespace\b"), "no `using namespace`"),
    (re.compile(r"\bthrow\b(?! CLI::)"), "no exceptions: return absl::Status"),
    (re.compile(r"\b(class|struct)\s+\w*(Manager|Helper|Utils?|Processor|Info|Data)\b[^;]*\{"),
     "a type's name says what it is"),
    (re.compile(r"[Tt]hread\w*(\(.*\))?\.detach\(\)"), "no detached threads"),
]
BANNED_FILE = re.compile(r"(^|_)(manager|helpers?|utils?|processor|data|info|impl)\.(h|cc)$")
INCLUDE = re.compile(r'^\s*#include\s+(?:"([^"]+)"|<([^>]+)>)')


def sources(root, *suffixes):
    for top in TOP:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def without_comments_and_strings(line):
    line = re.sub(r'"(\\.|[^"\\])*"', '""', line)
    return re.sub(r"//.*", "", line)


def forbidden_include(name, target):
    """Why file `name` may not include `target`, or None."""
    for pattern, allowed in FENCED:
        if pattern.match(target) and not name.startswith(allowed):
            return "only " + ", ".join(allowed) + " may"
    top, other = name.split("/")[0], target.split("/")[0]
    if other not in TOP:
        return None
    if other not in ARROWS[top]:
        return f"{top}/ may include only {', '.join(sorted(ARROWS[top]))} and proto"
    if "/testing/" in target and not (name.endswith("_test.cc") or "/testing/" in name or top == "tests"):
        return "doubles are for tests"
    if top == other == "server":
        return forbidden_server_include(name, target)
    if top == "merge" and target.startswith("merge/worker/") and not name.startswith("merge/worker/"):
        return "nothing depends on the worker"
    return None


def forbidden_server_include(name, target):
    if "/testing/" in name or name.startswith("server/hub_server") or name.endswith("_test.cc"):
        return None
    here, there = name.split("/")[1], target.split("/")[1]
    if here == there or there not in STAGES:
        return None
    return f"server/{here} may not include stage {there}: only hub_server sees them all"


def check_includes(root):
    for path in sources(root, ".h", ".cc", ".cu"):
        name = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if found := INCLUDE.match(line):
                target = found[1] or found[2]
                if why := forbidden_include(name, target):
                    yield f"{name}:{number}: includes {target}: {why}"


def names_file(cmake, listed):
    """Whether a CMakeLists.txt names a file, or its stem in a foreach over ${...}.cc."""
    if re.search(rf"(?<![\w/.-]){re.escape(listed)}(?![\w.])", cmake):
        return True
    stem, dot, suffix = listed.rpartition(".")
    loop = re.search(r"foreach\((\w+) ([\w ]+)\)(?:(?!endforeach).)*\$\{\1\}\." + suffix, cmake, re.S)
    return bool(loop) and stem in loop[2].split()


def check_dead_files(root):
    lists = {p.parent: p.read_text() for p in root.rglob("CMakeLists.txt") if "build" not in p.parts}
    for path in list(sources(root, ".h", ".cc", ".cu")) + sorted((root / "proto").rglob("*.proto")):
        folder = path.parent
        while folder != root.parent:
            listed = path.relative_to(folder).as_posix()
            if names_file(lists.get(folder, ""), listed):
                break
            folder = folder.parent
        else:
            yield f"{path.relative_to(root)}: no CMakeLists.txt names it"


def function_lengths(lines):
    """(first line, length) of what looks like a function in clang-format's layout."""
    start = None
    for number, line in enumerate(lines, 1):
        indent = len(line) - len(line.lstrip())
        if start is None and line.rstrip().endswith("{") and indent in (0, 2):
            opens = re.match(r"\s*(namespace|extern|class|struct|enum|union|template|switch|if|for|while)\b", line)
            if not opens and not re.search(r"=\s*\{+$|\{\{$", line.rstrip()):
                start = (number, indent)
        elif start and indent == start[1] and line.lstrip().startswith("}"):
            yield start[0], number - start[0] + 1
            start = None


def check_lengths(root):
    for path in sources(root, ".h", ".cc", ".cu", ".py", ".sh"):
        name, lines = path.relative_to(root).as_posix(), path.read_text().splitlines()
        if len(lines) > FILE_LINES_MAX:
            yield f"{name}: {len(lines)} lines; at most {FILE_LINES_MAX}"
        if path.suffix in (".h", ".cc", ".cu"):
            for start, length in function_lengths(lines):
                if length > FUNCTION_LINES_MAX:
                    yield f"{name}:{start}: function of {length} lines; at most {FUNCTION_LINES_MAX}"


def text_files(root):
    yield from sources(root, ".h", ".cc", ".cu", ".py", ".sh", ".md", ".txt", ".yaml")
    for top in ("proto", "deploy"):
        yield from (p for p in sorted((root / top).rglob("*")) if p.is_file())
    yield from (p for p in (root / "README.md", root / "CMakeLists.txt") if p.exists())


def check_words(root):
    for path in text_files(root):
        name = path.relative_to(root).as_posix()
        if name.startswith("tests/tidy/") or "/corpus/" in name or "/testdata/" in name:
            continue
        if BANNED_FILE.search(path.name) and path.stem != "status_util":
            yield f"{name}: a file's name says what it holds"
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            rules = list(BANNED_ANYWHERE)
            found = [why for pattern, why in rules if pattern.search(line)]
            if path.suffix in (".h", ".cc", ".cu"):
                code = without_comments_and_strings(line)
                found += [why for pattern, why in BANNED_CODE if pattern.search(code)]
            yield from (f"{name}:{number}: {why}" for why in found)


def check_guards(root):
    for path in sources(root, ".h"):
        name = path.relative_to(root).as_posix()
        guard = "CAIRN_" + re.sub(r"[/.]", "_", name).upper() + "_"
        if f"#ifndef {guard}\n#define {guard}\n" not in path.read_text():
            yield f"{name}: the include guard is {guard}"


def check_contract(root):
    for path in sorted((root / "proto" / "cairn").rglob("*.proto")):
        name, previous, enum = path.relative_to(root).as_posix(), "", None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.strip()
            declares = re.match(r"(message|service|enum|rpc)\s+\w+|(repeated |optional )?[\w.<>, ]+ \w+ = \d+", code)
            if enum == "first" and re.match(r"\w+ = \d+", code):
                if not re.match(r"\w*UNSPECIFIED = 0", code):
                    yield f"{name}:{number}: the first value of an enum is ..._UNSPECIFIED = 0"
                enum = None
            if code.startswith("enum "):
                enum = "first"
            if declares and not previous.startswith("//"):
                yield f"{name}:{number}: has no comment: {code}"
            if code:
                previous = code


CHECKS = (check_includes, check_dead_files, check_lengths, check_words, check_guards, check_contract)


def main():
    root = Path(sys.argv[1]).resolve()
    findings = [finding for check in CHECKS for finding in check(root)]
    print("\n".join(findings) if findings else "tidy: nothing to say")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
