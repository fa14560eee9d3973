"""The inspector in a browser: what it draws, narrow and wide, light and dark, and whom it lets in."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text

from examples import inspector as example
from tests.browsing import SCREENS, assert_readable, opened, serving
from tests.helpers import answer, link_in, request
from wsgi_session import SessionMiddleware, on_success
from wsgi_session.inspector import Inspector
from wsgi_session.inspector._waterfall import lanes
from wsgi_session.observe import Recorder
from wsgi_session.replicas import Replicas, ToPrimary

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = "<script>alert(document)</script><img src=x onerror=alert(document)>"
LONG = "donaudampfschifffahrtsgesellschaft" * 12
WIDE = pytest.mark.parametrize("screen", ["1280-light"])

pytestmark = pytest.mark.system("chromium")


@pytest.fixture
def recorder(new_engine: Any) -> Iterator[Recorder]:
    """Return a recorder that has seen a request of every colour, a hostile and a large one; two more are under way."""
    recorder = Recorder(statements=True)
    busy = new_engine(pool_timeout=30, logging_name="busy")
    engine = new_engine(pool_size=2, logging_name=HOSTILE)
    do(colourful, engine, recorder, "/colourful")
    do(hostile, engine, recorder, f"/{HOSTILE}/{LONG}")
    do(large, engine, recorder, "/large")
    done = threading.Event()
    threads = [threading.Thread(target=do, args=(lambda environ: hold(environ, done), busy, recorder, "/live"))]
    threads.append(threading.Thread(target=do, args=(ask, busy, recorder, "/waiting")))
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    yield recorder
    done.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def page(browser: Browser, recorder: Recorder, screen: str, complaints: list[str], caplog: Any) -> Iterator[Page]:
    """Open the inspector by its link on a screen, and collect what the browser complains of from then on."""
    with serving(Inspector(recorder)) as address, opened(browser, address, screen, complaints) as page:
        open_by_link(page, "/", caplog)
        complaints.clear()
        yield page


@pytest.fixture
def link(page: Page, caplog: Any) -> str:
    """Return the link that was logged when the page was opened."""
    return link_in("\n".join(record.getMessage() for record in caplog.get_records("setup")))


def open_by_link(page: Page, address: str, caplog: Any) -> None:
    """Find nothing at an *address*, look into the log, and open the link that is there."""
    assert page.goto(address).status == 404  # type: ignore[union-attr]
    assert page.goto(link_in(caplog.text)).status == 200  # type: ignore[union-attr]


def do(work: Any, registry: Any, recorder: Recorder, path: str) -> None:
    """Do *work* with the environ of a request that is recorded."""

    def app(environ: Any, start_response: Any) -> Any:
        work(environ)
        answer(start_response)
        return []

    with suppress(LookupError):
        request(SessionMiddleware(app, registry, recorder=recorder, commit=on_success), path=path)


def ask(environ: Any) -> None:
    """Send a statement."""
    environ["sqlalchemy.session"].execute(text("SELECT 1"))


def hold(environ: Any, done: threading.Event) -> None:
    """Hold a connection until it is *done*."""
    ask(environ)
    done.wait(30)


def colourful(environ: Any) -> None:
    """Wait, hold, read, write and fail, and hold another connection at the same time."""
    session = environ["sqlalchemy.session"]
    for number in range(6):
        session.execute(text("SELECT :number"), {"number": number})
        time.sleep(0.02)
    session.execute(text("INSERT INTO word (text) VALUES ('x')"))
    with suppress(Exception):
        session.execute(text("SELECT nothing"))
    with session.get_bind().connect() as connection:
        connection.execute(text("SELECT 2"))
        time.sleep(0.02)


def hostile(environ: Any) -> None:
    """Send SQL that would like to be HTML, and is long, and raise an error of such a name."""
    for _ in range(6):
        environ["sqlalchemy.session"].execute(text(f'SELECT 1 AS "{HOSTILE}", 2 AS {LONG}'))
    raise type(HOSTILE, (LookupError,), {})


def large(environ: Any) -> None:
    """Send more statements than a page has."""
    for number in range(450):
        environ["sqlalchemy.session"].execute(text("SELECT :number"), {"number": number})


@pytest.fixture
def replicas() -> Replicas:
    """Return replicas of which one is late, and one is put aside."""
    primary, *standbys = (create_engine(f"postgresql+psycopg://db{number}.example/shop") for number in (1, 2, 3))
    replicas = Replicas(primary, standbys)
    replicas._to_primary |= {ToPrimary.METHOD: 12, ToPrimary.BEHIND: 3}
    late, lost = replicas._replicas
    late.requests, late._behind = 345, 0.21
    lost.put_aside("for this test")
    return replicas


@SCREENS
def test_every_page_is_readable(
    page: Page, screen: str, complaints: list[str], pictures: Path, replicas: Replicas
) -> None:
    """No page is wider than its window, axe-core finds nothing to mend, and no policy is broken by hostile text."""
    for name in ("", "routes", "requests/1", "requests/2", "requests/3?part=3", "live", "statements", "pools"):
        page.goto(f"/{name}")
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        picture = name.replace("/", "-").replace("?", "-") or "requests"
        page.screenshot(path=pictures / f"inspector-{picture}-{screen}.png", full_page=True)

        assert_readable(page)
    assert complaints == []


@SCREENS
def test_bars_are_where_the_record_has_them(page: Page, recorder: Recorder) -> None:
    """Each bar of a waterfall begins and ends where the record says that it did, to a pixel."""
    page.goto("/requests/1")
    record = next(one for one in recorder.records if one.number == 1)

    pictures = page.evaluate(BOXES)

    places = lanes(record, record.statements)
    assert len(places) == len(pictures) == 2
    assert {bar.kind for lane in places for bar in lane.bars} == {
        *("waiting", "held", "reading", "writing", "ending", "failed")
    }
    for lane, picture in zip(places, pictures, strict=True):
        scale = picture["width"] / record.duration
        expected = [(bar.kind, bar.at * scale, bar.duration * scale) for bar in lane.bars if bar.duration > 0]
        found = [(bar["kind"], bar["at"], bar["width"]) for bar in picture["bars"]]
        assert [kind for kind, *_ in found] == [kind for kind, *_ in expected]
        for (_, at, width), (_, expected_at, expected_width) in zip(found, expected, strict=True):
            assert (at, width) == (pytest.approx(expected_at, abs=1), pytest.approx(expected_width, abs=1))


BOXES = """() => [...document.querySelectorAll(".waterfall .lane")].map(svg => ({
  width: svg.getBoundingClientRect().width,
  bars: [...svg.querySelectorAll("rect")].map(rect => ({
    kind: rect.classList[1],
    at: rect.getBoundingClientRect().x - svg.getBoundingClientRect().x,
    width: rect.getBoundingClientRect().width,
  })),
}))"""


@WIDE
def test_every_bar_can_be_seen(page: Page) -> None:
    """A statement that took no time to speak of is still a pixel wide, by its outline."""
    page.goto("/requests/3")

    thin = page.evaluate("""() => [...document.querySelectorAll(".waterfall .reading")]
      .filter(rect => getComputedStyle(rect).stroke === "none").length""")
    assert page.locator(".waterfall .reading").count() == 200
    assert thin == 0


@WIDE
def test_pages_lead_to_each_other(page: Page, complaints: list[str]) -> None:
    """From the list to a request, its parts, and the other pages, by links."""
    page.get_by_role("link", name="GET /large").click()
    page.get_by_role("link", name="Further").first.click()
    assert page.get_by_text("201 to 400 of 451 statements").first.is_visible()

    page.get_by_role("link", name="Live").click()
    assert page.get_by_text("waiting for a connection").is_visible()
    page.get_by_role("link", name="Statements").click()
    page.get_by_role("link", name="Pools").click()
    assert page.get_by_role("heading", name="busy").first.is_visible()
    assert complaints == []


@WIDE
def test_its_own_button_clears(page: Page, recorder: Recorder, complaints: list[str]) -> None:
    """The button under the list has the requests forgotten."""
    page.get_by_role("button", name="Forget these requests").click()

    assert page.get_by_text("No request is done yet.").is_visible()
    assert recorder.records == ()
    assert complaints == []


@WIDE
def test_the_form_of_another_site_clears_nothing(page: Page, recorder: Recorder) -> None:
    """A form on a page of another site is refused: it is sent without the cookie."""
    form = f'<form method="post" action="{page.url}clear"><button>Win</button></form>'
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body=form))
    page.goto("http://elsewhere.example/")

    page.get_by_role("button", name="Win").click()

    assert "Not Found" in page.inner_text("body")
    assert len(recorder.records) == 3


@WIDE
def test_the_key_is_in_no_address(page: Page, link: str) -> None:
    """Once the link is open, no address has its key: not the history, not a Referer, and the cookie is no script's."""
    key = link.partition("key=")[2]
    asked: list[str] = []
    page.on("request", lambda one: asked.append(f"{one.url} after {one.headers.get('referer')}"))

    page.get_by_role("link", name="Live").click()
    for _ in range(2):  # over the page that the link has led to, to where it was opened
        page.go_back()

    assert len(asked) == 3
    assert not [one for one in asked if key in one]
    assert page.evaluate("document.cookie") == ""
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)  # type: ignore[typeddict-item]


@WIDE
def test_a_link_of_another_site_opens_nothing(page: Page) -> None:
    """A link to a page, on one of another site, brings no cookie; who enters the address himself is in."""
    address = page.url
    link = f'<a href="{address}">Look</a>'
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body=link))
    page.goto("http://elsewhere.example/")

    page.get_by_role("link", name="Look").click()
    assert "Not Found" in page.inner_text("body")

    assert page.goto(address).status == 200  # type: ignore[union-attr]


@WIDE
def test_a_name_of_another_site_finds_nothing(page: Page, link: str) -> None:
    """A site whose name leads to this computer (DNS rebinding) gets a 404; this computer's own name does not."""
    for host, status in (("rebound.example", 404), ("localhost", 200)):
        assert page.goto(link.replace("127.0.0.1", host)).status == status  # type: ignore[union-attr]


@WIDE
def test_another_site_cannot_read_it(page: Page) -> None:
    """A page of another site can neither fetch a page, nor show one in a frame."""
    address = page.url
    page.route("http://elsewhere.example/", lambda route: route.fulfill(content_type="text/html", body="<p>Hello</p>"))
    page.goto("http://elsewhere.example/")

    fetched = page.evaluate(f"fetch('{address}?format=json').then(() => 'read', error => 'refused')")
    framed = page.evaluate(f"""() => new Promise(done => {{
      const frame = document.createElement("iframe");
      frame.src = "{address}";
      frame.onload = () => {{
        try {{ done(frame.contentDocument ? "empty" : "refused"); }} catch {{ done("refused"); }}
      }};
      document.body.append(frame);
    }})""")

    assert fetched == "refused"
    assert framed == "refused"
    assert "Requests" not in [frame.title() for frame in page.frames[1:]]


@WIDE
def test_new_requests_come_in_by_themselves(
    page: Page, new_engine: Any, recorder: Recorder, complaints: list[str]
) -> None:
    """A list that nobody touches shows each new request, and whoever uses the keyboard stays where he is."""
    link = page.get_by_role("link", name="GET /large")
    link.focus()
    do(ask, new_engine(), recorder, "/new")

    page.get_by_role("link", name="GET /new").wait_for()
    assert page.evaluate("document.activeElement.textContent").strip() == "GET /large"
    assert complaints == []


@WIDE
def test_a_page_is_paused(page: Page, new_engine: Any, recorder: Recorder, complaints: list[str]) -> None:
    """A page that is paused stands still, until it goes on."""
    page.get_by_role("button", name="Pause").press("Enter")
    do(ask, new_engine(), recorder, "/new")
    page.wait_for_timeout(3500)  # two turns and more: nothing can be waited for that does not come

    assert page.get_by_role("link", name="GET /new").count() == 0
    page.get_by_role("button", name="Go on").press("Enter")
    page.get_by_role("link", name="GET /new").wait_for()
    assert complaints == []


@WIDE
def test_a_page_that_is_used_stands_still(page: Page, new_engine: Any, recorder: Recorder) -> None:
    """Nothing moves under the hands of somebody who types; when he has filtered, the page lives on."""
    page.get_by_label("path").fill("new")
    do(ask, new_engine(), recorder, "/new")
    page.wait_for_timeout(3500)
    assert page.get_by_role("link", name="GET /new").count() == 0

    page.get_by_label("path").press("Enter")
    page.get_by_role("link", name="GET /new").wait_for()
    assert page.locator(".requests > li").count() == 1


@pytest.mark.parametrize("screen", ["1280-light"])
def test_no_script_is_needed(browser: Browser, recorder: Recorder, screen: str) -> None:
    """Without scripts the pages are whole, and there is no button that would do nothing."""
    inspector = Inspector(recorder, allow=lambda environ: True)
    with serving(inspector) as address:
        context = browser.new_context(java_script_enabled=False, base_url=address)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("path").fill("large")
        page.get_by_label("path").press("Enter")

        assert page.locator(".requests > li").count() == 1
        assert page.get_by_role("button", name="Pause").count() == 0
        context.close()


@SCREENS
def test_a_page_leads_to_its_statements_and_their_values(
    browser: Browser, new_engine: Any, screen: str, complaints: list[str], pictures: Path, caplog: Any
) -> None:
    """A badge on a page with a strict policy leads to its request, where values and a plan are to be seen."""
    recorder = Recorder(statements=True, values=True)
    engine = new_engine(pool_size=2)

    def shop(environ: Any, start_response: Any) -> Any:
        for number in range(6):
            environ["sqlalchemy.session"].execute(text("SELECT text FROM word WHERE id = :id"), {"id": number})
        policy = ("Content-Security-Policy", "default-src 'none'; frame-src 'self'; style-src 'self'")
        start_response("200 OK", [("Content-Type", "text/html"), policy])
        return [SHOP.encode()]

    inspector = Inspector(recorder, editor="vscode", explain=True)
    application = inspector.mounted(SessionMiddleware(shop, engine, recorder=recorder), badge=True)
    with serving(application) as address, opened(browser, address, screen, complaints) as page:
        open_by_link(page, "/-/inspector/", caplog)
        complaints.clear()
        page.goto("/shop")
        badge = page.frame_locator("iframe").get_by_role("link")
        badge.wait_for()
        page.screenshot(path=pictures / f"inspector-badge-{screen}.png")
        assert_readable(page)
        with page.expect_popup() as popup:
            badge.click()
        request = popup.value
        request.get_by_text("Values", exact=True).first.click()
        request.screenshot(path=pictures / f"inspector-values-{screen}.png")
        assert_readable(request)
        request.get_by_role("button", name="Explain").first.click()
        request.get_by_text("USING INTEGER PRIMARY KEY").wait_for()

        assert_readable(request)
    assert complaints == []


SHOP = "<!doctype html><html lang=en><title>Shop</title><main><h1>Shop</h1><p>Nothing to sell.</p></main></html>"


@pytest.mark.parametrize("screen", ["800-light", "800-dark", "390-light"])
def test_the_example_is_a_tour(
    browser: Browser, tmp_path: Path, screen: str, complaints: list[str], pictures: Path, caplog: Any
) -> None:
    """From a page of the example, links lead to what it has done; the pictures in the docs are taken here."""
    engine = create_engine(f"sqlite:///{tmp_path / 'books.db'}", logging_name="books")
    with serving(example.make_application(engine)) as address, opened(browser, address, screen, complaints) as page:
        open_by_link(page, f"{example.PLACE}/", caplog)
        complaints.clear()
        for path in ("/", "/", "/slow", "/notes", "/notes"):
            page.goto(path)
        page.get_by_role("link", name="What has it done").click()
        page.screenshot(path=pictures / f"inspector-list-{screen}.png")
        page.get_by_role("link", name="GET /notes").first.click()
        page.screenshot(path=pictures / f"inspector-notes-{screen}.png")
        page.go_back()
        page.get_by_role("link", name="GET /slow").click()
        page.screenshot(path=pictures / f"inspector-slow-{screen}.png")

        assert page.get_by_text("scope.release() before what takes long").is_visible()
        assert_readable(page)
    engine.dispose()
    assert complaints == []
