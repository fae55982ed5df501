"""The house rules that a program can check. Each rule is a function from the root of the tree to a list of complaints; an empty list
means that the rule is kept. Only Python's standard library is used, and nothing is written.

A rule's name is a sentence without spaces and the first line of its docstring says why it is there.
"""
import os
import pathlib
import re
import subprocess

BASE = "base"
MIDDLE = ("blockdev", "fs-format", "esx-vmci", "vfile")
TOP = ("mountd", "cli")
CODE_FOLDERS = (BASE, *MIDDLE, *TOP)
TEST_FOLDERS = ("tests", "bench")
SKIPPED_FOLDERS = {"build", ".git", "__pycache__", "node_modules"}

MAX_CODE_LINES = 500
MAX_TEST_LINES = 700
MAX_FUNCTION_LINES = 60

# Which of our folders a folder may include. Tests and benchmarks may include all of them.
ALLOWED_LAYERS = {BASE: {BASE}}
ALLOWED_LAYERS |= {folder: {BASE, folder} for folder in MIDDLE}
ALLOWED_LAYERS |= {folder: {BASE, *MIDDLE, folder} for folder in TOP}
TARGET_FOLDERS = {"vdvs_base": BASE, "vdvs_blockdev": "blockdev", "vdvs_fsformat": "fs-format", "vdvs_esx": "esx-vmci",
                  "vdvs_vfile": "vfile", "vdvs_mountd": "mountd", "vdvs_cli": "cli"}

# Outside headers, and the files that wrap them. A header that is not here may be included anywhere.
WRAPPED_HEADERS = {
    r"blkid/": {"fs-format/prober_blkid.cc"},
    r"libudev\.h": {"blockdev/device_watcher_udev.cc"},
    r"boost/beast/": {"mountd/plugin_session_beast.cc", "mountd/engine_docker.cc", "esx-vmci/hypervisor/soap_https.cc"},
    r"CLI/": {"base/program_settings.cc", "cli/vdvs_arguments.cc"},
    r"spdlog/": {"base/log.cc"},
    r"(sys/mount\.h|libmount)": {"fs-format/mounter_kernel.cc", "fs-format/mount_options.cc"},
    r"openssl/": {"esx-vmci/datastore/sidecar.cc", "esx-vmci/transport/certificates_openssl.cc", "esx-vmci/transport/tls.cc",
                 "esx-vmci/hypervisor/soap_https.cc"},
    r"(SQLiteCpp/|sqlite3\.h)": {"esx-vmci/tenancy/sqlite_file.cc"},
    r"pugixml\.hpp": {"esx-vmci/hypervisor/soap_xml.cc", "esx-vmci/hypervisor/soap_print.cc", "cli/xml_output.cc"},
}

FORBIDDEN_WORDS = {
    r"\b(sleep_for|sleep_until|usleep|nanosleep)\b": "waits by sleeping: wait for the event, with a deadline",
    r"\b(TODO|FIXME|XXX)\b": "leaves work for later: do it, or say in the docs what is not there",
}

# Where a program's flags are explained.
PAGES_OF_FLAGS = {"mountd": "docs/configuration.md", "vmdkopsd": "docs/service.md"}

# Test helpers that ask the kernel again and again for a state that it tells by no event.
MAY_SLEEP = {"tests/blockdev/loop_node.h"}


# ---- reading the tree ----

def files(root, *suffixes, under=("",)):
    """The tree's own files with one of these suffixes, as paths relative to `root`, sorted."""
    found = []
    for top in under:
        for folder, folders, names in os.walk(root / top):
            folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
            found += [pathlib.Path(folder, name).relative_to(root) for name in names if name.endswith(suffixes)]
    return sorted(found)


def code_files(root, under=CODE_FOLDERS):
    return files(root, ".cc", ".h", under=under)


def read(root, path):
    return (root / path).read_text(encoding="utf-8")


def read_or_empty(root, path):
    return read(root, path) if (root / path).exists() else ""


def without_comments(text):
    """C++ text with its comments and string literals blanked, lines kept."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"', re.DOTALL)
    return pattern.sub(lambda match: '""' + "\n" * match.group(0).count("\n"), text)


def table_rows(text):
    """The body rows of all Markdown tables of a page, as lists of cells."""
    rows = []
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|\s:-]+", line):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
    return rows


# ---- layers ----

def includes_follow_the_layers(root):
    """base knows nobody; the middle folders know base alone and never each other; mountd and the command line may know all of them."""
    complaints = []
    for path in code_files(root):
        folder = path.parts[0]
        for name in re.findall(r'^#include "([^"]+)"', read(root, path), re.MULTILINE):
            if not (root / name).is_file():
                complaints.append(f"{path}: includes '{name}', which is not a path from the root of the tree")
            elif name.split("/")[0] not in ALLOWED_LAYERS[folder]:
                complaints.append(f"{path}: '{folder}' must not include '{name}'")
    return complaints


def links_follow_the_layers(root):
    """What a target links is what it may include, so the build says the same as the includes."""
    complaints = []
    for folder in CODE_FOLDERS:
        text = read_or_empty(root, f"{folder}/CMakeLists.txt")
        for target in re.findall(r"\bvdvs_\w+", text):
            other = TARGET_FOLDERS.get(target)
            if other is not None and other not in ALLOWED_LAYERS[folder]:
                complaints.append(f"{folder}/CMakeLists.txt: '{folder}' must not link {target}")
    return complaints


def outside_headers_stay_in_the_file_that_wraps_them(root):
    """A library that can be replaced by rewriting one file stays replaceable."""
    complaints = []
    for path in code_files(root):
        for name in re.findall(r"^#include <([^>]+)>", read(root, path), re.MULTILINE):
            for pattern, homes in WRAPPED_HEADERS.items():
                if re.match(pattern, name) and str(path) not in homes:
                    complaints.append(f"{path}: <{name}> belongs into {', '.join(sorted(homes))}")
    return complaints


def every_source_is_listed(root):
    """Sources are listed in a CMakeLists.txt of their folder or of one above, not found by a pattern: a forgotten file is a file that is not tested."""
    complaints = []
    for folder in CODE_FOLDERS:
        lists = {str(path.parent.relative_to(root)): path.read_text() for path in sorted((root / folder).rglob("CMakeLists.txt"))}
        if folder not in lists:
            continue
        complaints += [f"{place}/CMakeLists.txt: uses GLOB" for place, text in lists.items() if "GLOB" in text]
        for path in code_files(root, under=(folder,)):
            names = [(path.relative_to(place), text) for place, text in lists.items() if path.is_relative_to(place)]
            if not any(re.search(rf"(?<![\w/-]){re.escape(str(name))}\b", text) for name, text in names):
                complaints.append(f"{folder}/CMakeLists.txt: does not list {path.relative_to(folder)}")
    return complaints


# ---- text of the code ----

def no_file_is_too_long(root):
    """A long file has a second role in it."""
    complaints = []
    limits = ((CODE_FOLDERS, MAX_CODE_LINES), (TEST_FOLDERS, MAX_TEST_LINES))
    for folders, limit in limits:
        for path in files(root, ".cc", ".h", ".py", ".sh", under=folders):
            count = len(read(root, path).splitlines())
            if count > limit:
                complaints.append(f"{path}: {count} lines (at most {limit})")
    return complaints


def no_function_is_too_long(root):
    """A long function does a second thing. Counts the lines between the braces, in code laid out by clang-format."""
    opening = re.compile(r"^(\s*)(?!namespace|class|struct|enum|union|extern|constexpr|const |static const)\S.*\).*\{$")
    complaints = []
    for path in code_files(root):
        lines = without_comments(read(root, path)).splitlines()
        for start, line in enumerate(lines):
            match = opening.match(line)
            is_function = match and len(match.group(1)) <= 2 and not re.match(r"\s*(if|for|while|switch|do|else|\})\b", line)
            if not is_function:
                continue
            closing = match.group(1) + "}"
            end = next((i for i in range(start + 1, len(lines)) if lines[i].rstrip(";") == closing), start)
            if end - start - 1 > MAX_FUNCTION_LINES:
                complaints.append(f"{path}:{start + 1}: a function of {end - start - 1} lines (at most {MAX_FUNCTION_LINES})")
    return complaints


def headers_say_what_they_are_for(root):
    """A header opens with a comment and is guarded by #pragma once."""
    complaints = []
    for path in files(root, ".h", under=CODE_FOLDERS):
        text = read(root, path)
        if not text.startswith("// "):
            complaints.append(f"{path}: does not open with what it is for")
        if "#pragma once" not in text:
            complaints.append(f"{path}: no #pragma once")
    return complaints


def nothing_sleeps_and_nothing_is_left_for_later(root):
    """Words that stand for waiting blindly, or for work that was put off."""
    complaints = []
    for path in files(root, ".cc", ".h", ".py", ".sh", ".cmake", "CMakeLists.txt"):
        if path.parts[:2] == ("tests", "layers"):
            continue  # the words stand here as rules
        for number, line in enumerate(read(root, path).splitlines(), 1):
            for pattern, why in FORBIDDEN_WORDS.items():
                if re.search(pattern, line) and not ("sleep" in pattern and str(path) in MAY_SLEEP):
                    complaints.append(f"{path}:{number}: {why}")
    return complaints


def no_path_of_a_workplace(root):
    """What is in the tree works on every machine: no absolute path of the one where it was written."""
    pattern = re.compile(r"(?<![\w.-])/(?:work|home/\w+)/[\w.]")
    complaints = []
    for path in files(root, ".cc", ".h", ".py", ".sh", ".md", ".txt", ".json", ".cmake", ".service", ".socket", ".toml"):
        for number, line in enumerate(read(root, path).splitlines(), 1):
            if pattern.search(line):
                complaints.append(f"{path}:{number}: {line.strip()[:100]}")
    return complaints


def a_skipped_test_names_a_limit_of_the_machine(root):
    """A test that does not run counts as a failure, unless the machine lacks something; tests/summary.py reads the text."""
    complaints = []
    for path in code_files(root, under=TEST_FOLDERS):
        text = read(root, path)
        for match in re.finditer(r"GTEST_SKIP\(\)", text):
            if not re.match(r'\s*<<\s*(?:fmt::format\()?\s*"limit of the machine: ', text[match.end():]):
                line = text.count("\n", 0, match.start()) + 1
                complaints.append(f"{path}:{line}: GTEST_SKIP without \"limit of the machine: ...\"")
    return complaints


# ---- the documentation says what the code says ----

def compare(what, in_code, in_docs, page):
    complaints = [f"{page}: {what} '{name}' is missing" for name in sorted(set(in_code) - set(in_docs))]
    return complaints + [f"{page}: {what} '{name}' is not in the code" for name in sorted(set(in_docs) - set(in_code))]


def every_error_code_is_explained(root):
    """docs/errors.md has a heading for each code of base/error.cc, and for no other."""
    in_code = re.findall(r'return "(E_\w+)"', read(root, "base/error.cc"))
    in_docs = re.findall(r"^#+ (E_\w+)", read_or_empty(root, "docs/errors.md"), re.MULTILINE)
    return compare("error code", in_code, in_docs, "docs/errors.md")


def every_mutex_is_listed(root):
    """docs/threading.md has a row `| `file` | `name` | ...` for each base::Mutex, and for no other."""
    in_code = []
    for path in code_files(root):
        if str(path) == "base/mutex.h":
            continue
        declared = re.findall(r"^\s*(?:mutable |static |inline )*(?:base::)?Mutex (\w+)\b[^(;\n]*;", read(root, path), re.MULTILINE)
        in_code += [f"{path} {name}" for name in declared]
    in_docs = []
    for cells in table_rows(read_or_empty(root, "docs/threading.md")):
        match = re.fullmatch(r"`([\w./-]+\.(?:cc|h))`", cells[0])
        if match and len(cells) > 1 and re.fullmatch(r"`\w+`", cells[1]):
            in_docs.append(f"{match.group(1)} {cells[1].strip('`')}")
    return compare("mutex", in_code, in_docs, "docs/threading.md")


def every_fault_point_is_listed(root):
    """docs/testing.md names each fault point: the list that the crash tests walk along."""
    in_code = []
    for path in code_files(root):
        text = read(root, path)
        in_code += re.findall(r'fault_point\((?:fmt::format\()?"([^"]+)"', text)
        in_code += re.findall(r'string_view kFault\w+ =\s*"([^"]+)"', text)
    in_code = [name.replace("{}", "<step>") for name in in_code]
    in_docs = []
    for cells in table_rows(read_or_empty(root, "docs/testing.md")):
        in_docs += re.findall(r"`((?:[\w-]+|<step>)(?:\.(?:[\w-]+|<step>))*\.(?:before|after))`", cells[0])
    return compare("fault point", in_code, in_docs, "docs/testing.md")


def the_table_is_the_one_in_the_code(root):
    """docs/architecture.md shows the table of mountd/volume_plan.cc, cell by cell."""
    words = {"kDone": "done", "kAwaitDevice": "await device"}

    def shown(step):
        refused = step.startswith("kRefuse")
        return words.get(step) or ("refuse" if refused else step[1:].lower())

    in_code = {}
    for name, cells in re.findall(r"/\* ([^*]+?) +\*/ \{\{(.+?)\}\}", read(root, "mountd/volume_plan.cc")):
        in_code[name] = [shown(step.strip()) for step in cells.split(",")]
    in_docs = {}
    for cells in table_rows(read_or_empty(root, "docs/architecture.md")):
        if len(cells) == 7 and cells[0] != "seen":
            in_docs[cells[0]] = [cell.strip("*") for cell in cells[1:]]
    complaints = compare("row", in_code, in_docs, "docs/architecture.md")
    for name in in_code.keys() & in_docs.keys():
        if in_code[name] != in_docs[name]:
            complaints.append(f"docs/architecture.md: row '{name}' says {in_docs[name]}, the code says {in_code[name]}")
    return complaints if in_code else ["mountd/volume_plan.cc: the table is not found"]


def every_volume_option_is_documented(root):
    """docs/options.md has a row for each option of the table in esx-vmci/volume_options.cc, with its default."""
    rows = re.findall(r'OptionRow\{"([\w-]+)", "([^"]*)"', read(root, "esx-vmci/volume_options.cc"))
    in_code = [f"{name} (default {'none' if default == 'None' else default})" for name, default in rows]
    in_docs = []
    for cells in table_rows(read_or_empty(root, "docs/options.md")):
        match = re.fullmatch(r"`([\w-]+)`", cells[0])
        if match and len(cells) >= 3:
            in_docs.append(f"{match.group(1)} (default {cells[2].strip('`')})")
    return compare("option", in_code, in_docs, "docs/options.md")


def flags_of(help_text):
    flags = re.findall(r"(?:^|,)\s*(--[a-z][a-z-]*)", help_text, re.MULTILINE)
    return sorted({flag for flag in flags if flag not in ("--help", "--version")})


def compare_flags(help_text, page, name="docs/configuration.md"):
    in_docs = [match.group(1) for cells in table_rows(page) if (match := re.fullmatch(r"`(--[a-z-]+)[^`]*`", cells[0]))]
    return compare("flag", flags_of(help_text), in_docs, name)


def every_flag_is_documented(root, program):
    """The program's page has a row for each flag that its --help prints, and for no other."""
    page = PAGES_OF_FLAGS[pathlib.Path(program).name]
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        return [f"{program} --help: exit status {done.returncode}"]
    return compare_flags(done.stdout, read_or_empty(root, page), page)


def every_decision_is_listed(root):
    """docs/decisions/README.md links each record; records are numbered without gaps and have the three parts."""
    complaints = []
    records = sorted(path.name for path in (root / "docs/decisions").glob("[0-9]*.md"))
    index = read_or_empty(root, "docs/decisions/README.md")
    for number, name in enumerate(records, 1):
        if not name.startswith(f"{number:04}-"):
            complaints.append(f"docs/decisions/{name}: number {number:04} was expected")
        if f"({name})" not in index:
            complaints.append(f"docs/decisions/README.md: does not link {name}")
        text = read(root, f"docs/decisions/{name}")
        complaints += [f"docs/decisions/{name}: no '## {part}'" for part in ("Context", "Decision", "Consequences")
                       if f"\n## {part}\n" not in text]
    return complaints


# ---- Markdown ----

def the_predecessors_tests_have_ours(root):
    """docs/predecessor-tests.md says which tests of ours show what the predecessor's did: each of them must be there."""
    google, python = set(), set()
    for path in files(root, ".cc", ".h", under=("tests",)):
        google |= {f"{suite}.{name}" for suite, name in re.findall(r"TEST(?:_F|_P)?\((\w+), (\w+)\)", read(root, path))}
    for path in files(root, ".py", under=("tests",)):
        text = read(root, path)
        for found in re.finditer(r"^class (\w+)\(.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL):
            python |= {f"{found.group(1)}.{name}" for name in re.findall(r"def (test_\w+)", found.group(0))}
    complaints = []
    for cells in table_rows(read_or_empty(root, "docs/predecessor-tests.md")):
        for name in re.findall(r"`(\w+\.\w+)`", cells[-1]):
            kind, case = name.split(".")
            is_there = name in google | python
            if not is_there and kind[0].islower():  # a ctest of the folder of that name, or a scenario that one of them runs
                scripts = [read(root, path) for path in files(root, ".py", under=(f"tests/{kind}",))]
                is_there = (re.search(rf"\b{case}\b", read_or_empty(root, f"tests/{kind}/CMakeLists.txt")) is not None
                            or any(f"\ndef {case}(" in text for text in scripts))
            if not is_there:
                complaints.append(f"docs/predecessor-tests.md: there is no test '{name}'")
    return complaints


def anchors(text):
    """The anchors that GitHub makes of a page's headings."""
    found = set()
    for title in re.findall(r"^#+ +(.+?)\s*$", outside_code(text), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").replace("*", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(slug)
    return found


def outside_code(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text):
    """Targets of [text](target) and of src="target", without those to other sites."""
    text = re.sub(r"`[^`\n]*`", "", outside_code(text))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def links_between_pages_resolve(root):
    """A link leads to a file that is there, and its anchor to a heading."""
    complaints = []
    for page in files(root, ".md"):
        for target in links(read(root, page)):
            path, _, anchor = target.partition("#")
            goal = (root / page.parent / path) if path else root / page
            if not goal.exists():
                complaints.append(f"{page}: link to '{target}', which is not there")
            elif anchor and goal.suffix == ".md" and anchor not in anchors(goal.read_text(encoding="utf-8")):
                complaints.append(f"{page}: link to '{target}': no such heading")
    return complaints


def every_page_is_reachable(root):
    """A reader who begins at README.md finds every page of docs/."""
    reached = set()
    pending = [pathlib.Path("README.md")]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md" or not (root / page).is_file():
            continue
        reached.add(page)
        for target in links(read(root, page)):
            path = target.partition("#")[0]
            if path:
                pending.append(pathlib.Path(os.path.normpath(page.parent / path)))
    return [f"{page}: no way leads here from README.md" for page in files(root, ".md", under=("docs",)) if page not in reached]


RULES = [
    includes_follow_the_layers,
    links_follow_the_layers,
    outside_headers_stay_in_the_file_that_wraps_them,
    every_source_is_listed,
    no_file_is_too_long,
    no_function_is_too_long,
    headers_say_what_they_are_for,
    nothing_sleeps_and_nothing_is_left_for_later,
    no_path_of_a_workplace,
    a_skipped_test_names_a_limit_of_the_machine,
    every_error_code_is_explained,
    every_mutex_is_listed,
    every_fault_point_is_listed,
    the_table_is_the_one_in_the_code,
    every_volume_option_is_documented,
    every_decision_is_listed,
    the_predecessors_tests_have_ours,
    links_between_pages_resolve,
    every_page_is_reachable,
]
