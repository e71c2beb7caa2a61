"""What a reader sees of HTML and Markdown, for tests of pages that hold other people's text."""

from html.parser import HTMLParser

from markdown_it import MarkdownIt


class Shown(HTMLParser):
    """What a browser would show of HTML: cells and other text; and elements and addresses."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str | None] = []
        self.text = ""
        self._in_cell = False
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]
        if tag == "td":
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        self.text += data
        if self._in_cell:
            self.cells[-1] += data


def as_viewer(markdown: str) -> Shown:
    """Render as a viewer that allows HTML does, and makes links of addresses where its parser can."""
    return Shown(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
