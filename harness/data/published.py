"""The published data sets: what is known of each without having it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.data.series import Triple, shares


@dataclass(frozen=True)
class Entry:
    """A published data set.

    ``stems`` are the file names, without suffix, that it goes by. ``urls`` are tried in order;
    ``megabytes`` is what the first one sends. ``season`` is in steps. ``hash`` is the value hash
    of a verified copy, or None where there was no copy to hash. ``months`` is the split in months
    of 30 days (of a set with a season of a day), or None for 7:1:2. ``start`` is the first stamp
    of a text file without stamps. ``cleans`` names the set that this one is a repair of.
    """

    name: str
    stems: tuple[str, ...]
    urls: tuple[str, ...]
    megabytes: float
    frequency: str
    season: int
    rows: int
    channels: int
    hash: str | None
    months: Triple | None = None
    start: str | None = None
    cleans: str | None = None

    @property
    def borders(self) -> Triple:
        """Where the training, validation and test parts end, in time steps."""
        if self.months is None:
            return shares(self.rows, (0.7, 0.1, 0.2))
        train, valid, test = (30 * self.season * months for months in self.months)
        return train, train + valid, train + valid + test


_GITHUB = "https://raw.githubusercontent.com"
_ETT = f"{_GITHUB}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"
_HICR = f"{_GITHUB}/ljnvs/HiCR-Mamba/d472c100956ed4373e9ca3700481ce88f8f1e4dd/datasets"
_JUNWOO = (
    f"{_GITHUB}/junwoopark92/Self-Supervised-Contrastive-Forecsating"
    "/f394705adbf5217811276f5e59576c6e7ea7586c/dataset"
)
_THUML = (
    "https://huggingface.co/datasets/thuml/Time-Series-Library/resolve"
    "/2b66e59ee19dac8f6f19fb5d4997f289fdfea357"
)
_LSTNET = f"{_GITHUB}/laiguokun/multivariate-time-series-data/master"

# Seasons are the shortest natural cycle: a day, and a year for weekly data. Exchange rates have
# none; 7 is the week of the benchmark's unbroken daily index.
_WEATHER = Entry(
    name="weather",
    stems=("weather",),
    urls=(f"{_HICR}/weather/weather.csv.gz", f"{_THUML}/weather/weather.csv"),
    megabytes=2.3,
    frequency="10min",
    season=144,
    rows=52_696,
    channels=21,
    hash="3fbc8c01bb2daf04c8356d0ae0174f29ecdea83e3446fd520e9240cfa11512de",
)

CATALOGUE: dict[str, Entry] = {
    found.name: found
    for found in (
        *(
            Entry(
                name=name,
                stems=(name,),
                urls=(f"{_ETT}/{name}.csv", f"{_THUML}/ETT-small/{name}.csv"),
                megabytes=megabytes,
                frequency=frequency,
                season=season,
                rows=rows,
                channels=7,
                hash=digest,
                months=(12, 4, 4),
            )
            for name, megabytes, frequency, season, rows, digest in (
                (
                    "ETTh1",
                    2.6,
                    "h",
                    24,
                    17_420,
                    "80cec9568b40defa515808d8a9c40c52f59720b4fd4dadaf278f0ac400bed491",
                ),
                (
                    "ETTh2",
                    2.4,
                    "h",
                    24,
                    17_420,
                    "6c32dd408becced695de495ce2bf7a8d3c1154789897b17bf6e47e895510a674",
                ),
                (
                    "ETTm1",
                    10.4,
                    "15min",
                    96,
                    69_680,
                    "9b2fb449c873c640930dcae5b6729788b9d94129498399f3d6a820637d1e0e3d",
                ),
                (
                    "ETTm2",
                    9.7,
                    "15min",
                    96,
                    69_680,
                    "0a2f4b881a657214f29d7481a855f4dd283e95d97b8fa9e044a4ce3152df1107",
                ),
            )
        ),
        _WEATHER,
        replace(
            _WEATHER,
            name="weather_clean",
            hash="0cd333370e572ffccc35f8a2ba407c1aafbd53d70dc49b9a0a2c0cac155af36f",
            cleans="weather",
        ),
        Entry(
            name="exchange_rate",
            stems=("exchange_rate",),
            urls=(
                f"{_JUNWOO}/exchange_rate/exchange_rate.csv",
                f"{_THUML}/exchange_rate/exchange_rate.csv",
            ),
            megabytes=0.63,
            frequency="D",
            season=7,
            rows=7_588,
            channels=8,
            hash="4d6a7b7110aba9dea83dd49cc7f8a89bc9329da361bc8f140d47d8326671ff33",
        ),
        Entry(
            name="national_illness",
            stems=("national_illness",),
            urls=(
                f"{_JUNWOO}/illness/national_illness.csv",
                f"{_THUML}/illness/national_illness.csv",
            ),
            megabytes=0.067,
            frequency="W-TUE",
            season=52,
            rows=966,
            channels=7,
            hash="65ad277fb73f2d4d231df3bafde388571b024d628f6c74a1a47de6f0fad22bcc",
        ),
        # Unverified upstream: no copy could be hashed. The addresses are those the field uses.
        Entry(
            name="electricity",
            stems=("electricity",),
            urls=(f"{_THUML}/electricity/electricity.csv",),
            megabytes=96,
            frequency="h",
            season=24,
            rows=26_304,
            channels=321,
            hash=None,
        ),
        Entry(
            name="traffic",
            stems=("traffic",),
            urls=(f"{_THUML}/traffic/traffic.csv",),
            megabytes=136,
            frequency="h",
            season=24,
            rows=17_544,
            channels=862,
            hash=None,
        ),
        Entry(
            name="solar",
            stems=("solar_AL", "solar"),
            urls=(f"{_LSTNET}/solar-energy/solar_AL.txt.gz",),
            megabytes=8.5,
            frequency="10min",
            season=144,
            rows=52_560,
            channels=137,
            hash=None,
            start="2006-01-01 00:00",
        ),
    )
}

# Test windows of the classic sets at stride 1, nothing dropped (README, "Protocol"):
# horizon -> count. Written down rather than derived, so that a change of borders cannot pass
# unnoticed.
_ETT_HOUR = {96: 2785, 192: 2689, 336: 2545, 720: 2161}
_ETT_QUARTER = {96: 11425, 192: 11329, 336: 11185, 720: 10801}
_WEATHER_WINDOWS = {96: 10444, 192: 10348, 336: 10204, 720: 9820}
TEST_WINDOWS: dict[str, dict[int, int]] = {
    "ETTh1": _ETT_HOUR,
    "ETTh2": _ETT_HOUR,
    "ETTm1": _ETT_QUARTER,
    "ETTm2": _ETT_QUARTER,
    "weather": _WEATHER_WINDOWS,
    "weather_clean": _WEATHER_WINDOWS,
    "electricity": {96: 5165, 192: 5069, 336: 4925, 720: 4541},
    "traffic": {96: 3413, 192: 3317, 336: 3173, 720: 2789},
    "exchange_rate": {96: 1422, 192: 1326, 336: 1182, 720: 798},
    "solar": {96: 10417, 192: 10321, 336: 10177, 720: 9793},
    "national_illness": {24: 170, 36: 158, 48: 146, 60: 134},
}
