"""Behind ``d2 check --self-test``: the installation itself is checked."""

from d2cli import display
from d2cli.files.stdout import write_stdout
from d2cli.pipeline.native import check_native_code
from d2cli.render.checks import SELF_TEST_KIND, check_lines, render_checks
from d2cli.stages.verdicts import LeftOut, tell_checks, worst

BROKEN = 1  # a bug, here or in the installation


def self_test(*, as_json: bool) -> int:
    """Check an installation; return the exit code, 1 if something fails."""
    checks, left_out, versions = check_native_code(), [], ""
    if worst(checks) == "pass":
        # Not before: it loads the libraries into this process.
        from d2cli.pipeline import self_test

        checks += self_test.check_installation()
        versions = self_test.versions()
    else:
        left_out = [LeftOut("results", "a compiled library does not run here")]
    found = {
        "kind": SELF_TEST_KIND,
        "versions": versions or "versions: not asked for",
        **tell_checks(checks, left_out),
    }
    if as_json:
        write_stdout(render_checks(found))
    else:
        lines = check_lines(found, escape=display.one_line)
        write_stdout("\n".join([*lines, ""]).encode())
    return BROKEN if found["verdict"] == "fail" else 0
