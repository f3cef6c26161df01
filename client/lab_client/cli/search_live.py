"""A search, live in the terminal: a bar and its trials."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lab_client.cli.context import console
from lab_client.cli.render import number
from lab_client.cli.search_render import state, trials_table
from lab_client.searches import TrialState
from lab_client.sync.search import Search
from lab_client.views.search_progress import SearchView, waiting

_MARGIN_LINES = 10


class LiveSearch(SearchView):
    """A screenful about a search."""

    def __rich__(self) -> RenderableType:
        """Draw it; rich asks a few times a second."""
        info, best = self.info, self.best
        head = Text.assemble((info.name, "bold"), f"  {info.id}  ", state(self.state))
        if self.reason:
            head.append(f"  {self.reason}", style="dim")
        if self.waits_for:
            head.append(f"\n{waiting(self.waits_for)}", style="yellow")
        bar = Table.grid(padding=(0, 1))
        num_running = sum(trial.state is TrialState.RUNNING for trial in self.trials)
        facts = f"{self.num_done}/{self.max_trials} trials ended"
        if num_running:
            facts += f", {num_running} running"
        if best is not None and best.value is not None:
            facts += f"  best {info.metric} {number(best.value)} (trial {best.number})"
        bar.add_row(ProgressBar(total=self.max_trials, completed=self.num_done, width=40), facts)
        screen = console()
        room = max(3, screen.height - _MARGIN_LINES)
        return Group(head, bar, trials_table(info, self.trials, best, screen.width, room))


def show_live(search: Search) -> None:
    """Show a search on a terminal until it has ended."""
    view = LiveSearch(search.info)
    with Live(view, console=console(), refresh_per_second=4):
        search.show_progress(view)
