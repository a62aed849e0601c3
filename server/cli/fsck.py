"""`fsck`: is every model on disk whole? Works without a server."""

from __future__ import annotations

from dataclasses import asdict

import click

from server.cli.context import echo_json, json_flag
from server.cli.words import human_bytes
from server.config import Config


@click.command("fsck")
@click.option("--repair", is_flag=True, help="Put what is damaged aside (nothing is deleted)")
@json_flag
def fsck_command(repair: bool, as_json: bool) -> int:
    """Check every model and every byte on disk. Exit status 1 when a model is damaged."""
    from server.cli.progress import progress
    from server.store.fsck import check

    root = Config.load().models
    with progress() as bars:
        report = check(root, repair, lambda done, total: bars.update("reading blobs", done, total))
    if as_json:
        echo_json(asdict(report) | {"sound": report.sound, "root": str(root)})
        return 0 if report.sound else 1
    for problem in report.problems:
        said = [problem.trouble, problem.repaired or problem.advice]
        click.echo(f"{problem.what}: {'; '.join(filter(None, said))}")
    click.echo(f"{report.models} models, {report.blobs} blobs, {human_bytes(report.nbytes)} in {root}: ", nl=False)
    click.echo("sound" if report.sound else "damaged")
    return 0 if report.sound else 1
