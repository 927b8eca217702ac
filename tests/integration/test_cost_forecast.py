"""The forecast of what scoring costs, against what is then spent with a provider that counts like a real tokenizer."""

import random
import secrets
from collections.abc import Callable, Iterator

import pytest
from integration.scoring import Desk, Obedient
from integration.site import NOON, Site
from scoring import tokenizer
from scoring.openai_server import OpenAIServer, serving

from backfill_tasks import settings
from backfill_tasks.errors import UsageError
from backfill_tasks.scoring import cost
from backfill_tasks.scoring.cost import Choice, CostForecast, Forecaster
from backfill_tasks.scoring.openai import OpenAI
from backfill_tasks.scoring.openai_batch import OpenAIBatch
from sandbox.servers import Servers

ALL = Choice(None, rescore_all=False, after=None)

#: How many leads each database has, and how many of them are scored to measure the model.
LEADS, MEASURED = 300, 40

ENGLISH = (
    "thanks for reaching out we are currently looking at several providers for payroll and would like to know more"
    " about pricing onboarding implementation timelines integrations with our accounting software and references from"
    " dental practices could you send the documentation before our meeting on Tuesday the management decides"
)
GERMAN = (
    "vielen Dank für Ihre Nachricht wir prüfen gerade verschiedene Lohnabrechnungsdienstleister und möchten gerne mehr"
    " über Preise Einführungszeiten Schnittstellen zur Buchhaltungssoftware sowie Datenschutzvereinbarungen erfahren"
)
RUSSIAN = (
    "спасибо за ваше письмо мы сейчас рассматриваем нескольких поставщиков и хотели бы узнать подробнее про условия"
    " договора и стоимость внедрения"
)

Lengths = Callable[[random.Random], float]

#: Words of a conversation: nearly alike; a heavy tail; nearly all tiny and a few huge; a mixture.
DATABASES: dict[str, tuple[Lengths, list[str]]] = {
    "short and alike": (lambda dice: dice.gauss(40, 8), [ENGLISH]),
    "heavy tail": (lambda dice: 20 * dice.paretovariate(0.9), [ENGLISH]),
    "one in twenty is huge": (lambda dice: 6_000 if dice.random() < 0.05 else 12, [ENGLISH]),
    "three languages": (lambda dice: dice.lognormvariate(5, 1.2), [ENGLISH, GERMAN, RUSSIAN]),
}


@pytest.fixture
def provider() -> Iterator[OpenAIServer]:
    with serving() as made:
        yield made


@pytest.fixture
def variables(server: Servers, provider: OpenAIServer) -> dict[str, str]:
    return {
        "REDIS_URL": server.redis_url,
        "OPENAI_API_KEY": f"key-{secrets.token_hex(8)}",
        "OPENAI_BASE_URL": provider.url,
        "BACKFILL_OPENAI_REQUESTS_PER_MINUTE": "none",
        "BACKFILL_OPENAI_TOKENS_PER_MINUTE": "none",
    }


@pytest.fixture
def desk(site: Site, variables: dict[str, str]) -> Desk:
    return Desk(site, OpenAI(settings.load(variables)))


def forecast(desk: Desk, leads: int, choice: Choice = ALL) -> CostForecast:
    return Forecaster(desk.site.engine, "public", desk.scorer, 15_000).forecast(choice, leads)


def fill(desk: Desk, name: str, leads: int = LEADS) -> None:
    length, languages = DATABASES[name]
    dice = random.Random(name)  # noqa: S311
    for number in range(leads):
        words = dice.choice(languages).split()
        text = " ".join(dice.choices(words, k=max(3, min(6_000, round(length(dice))))))
        desk.add(f"lead-{number}", says=text)


def spend(desk: Desk, *, most: int | None = None) -> int:
    """Score all leads, or only the first, and return what was spent."""
    session = desk.start(max_spend=100_000_000, until_done=most is None, **({} if most is None else {"batch": most}))
    if most is None:
        desk.deliver_all()
    else:
        desk.deliver()
        desk.work.stop()
        desk.waiting.clear()
    return desk.work.read(session).spent


@pytest.mark.long
@pytest.mark.parametrize("name", DATABASES)
def test_the_forecast_is_within_15_percent_of_what_is_then_spent(desk: Desk, provider: OpenAIServer, name: str) -> None:
    provider.tokens = tokenizer.provider(1, thinks=230)
    fill(desk, name)
    assumed = forecast(desk, LEADS)
    few = spend(desk, most=MEASURED)
    measured = forecast(desk, LEADS - MEASURED)

    rest = spend(desk)

    found = f"assumed {assumed.cost}, measured {measured.cost} from {measured.sample}, spent {few} + {rest}"
    assert (assumed.answered, measured.answered) == (0, MEASURED)
    assert assumed.low <= few + rest <= assumed.high, found
    assert measured.low <= rest <= measured.high, found
    assert abs(measured.cost - rest) <= 0.15 * rest, found


def test_a_sample_of_like_conversations_is_small(desk: Desk) -> None:
    fill(desk, "short and alike", 250)

    assert forecast(desk, 250).sample == 100


def test_nothing_is_written_and_nothing_sent(desk: Desk, site: Site, provider: OpenAIServer) -> None:
    desk.add("lead-1")
    before = site.host.rows('SELECT * FROM "BackgroundJob"')

    forecast(desk, 1)

    assert site.host.rows('SELECT * FROM "BackgroundJob"') == before
    assert provider.requests == []
    assert site.host.values("SELECT count(*) FROM backfill.spend") == [0]


def test_only_leads_that_would_be_scored_are_drawn(desk: Desk, site: Site) -> None:
    desk.add("lead-1", "lead-2", "lead-3", "lead-4")
    site.host.add_leads("silent", inbound=0)
    site.host.do("""UPDATE "Lead" SET "overallScore" = 2 WHERE id = 'lead-1'""")
    site.host.do("""UPDATE "Lead" SET "sentimentTag" = 'Bounced' WHERE id = 'lead-2'""")

    every = forecast(desk, 10)
    later = forecast(desk, 10, Choice(None, rescore_all=False, after="lead-3"))
    again = forecast(desk, 10, Choice(None, rescore_all=True, after=None))
    elsewhere = forecast(desk, 10, Choice(["client-9"], rescore_all=False, after=None))

    assert (every.sample, later.sample, again.sample, elsewhere.sample) == (2, 1, 3, 0)


def test_a_few_leads_of_a_large_table_are_all_found(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.add("lead-1", "lead-2", "lead-3")
    monkeypatch.setattr(cost, "_BLOCKS", 0)

    assert forecast(desk, 3).sample == 3


def test_the_batch_api_costs_half(desk: Desk, site: Site, variables: dict[str, str]) -> None:
    fill(desk, "short and alike", 100)
    full = forecast(desk, 1_000)
    desk.scorer = OpenAIBatch(settings.load(variables))

    assert forecast(desk, 1_000).cost == pytest.approx(full.cost / 2, rel=0.01)


def test_a_scorer_without_a_model_costs_nothing(desk: Desk) -> None:
    desk.scorer = Obedient()
    assert (forecast(desk, 10).model, forecast(desk, 10).cost) == (None, 0)


def test_a_paid_scorer_that_tells_nothing_can_t_be_forecast(desk: Desk) -> None:
    desk.add("lead-1")
    desk.scorer = Obedient(model="gpt-5-nano")

    with pytest.raises(UsageError, match="can't be forecast"):
        forecast(desk, 1)


def test_a_sample_of_a_long_message_reads_what_is_sent(desk: Desk, site: Site) -> None:
    site.host.add_leads("lead-1", inbound=0)
    site.host.add_message("huge", "lead-1", body="word " * 400_000, direction="inbound", sentAt=NOON)

    assert 4_000 < forecast(desk, 1).input_tokens < 8_000
