"""report.html of mossc explore: its data are those of the CSV files, it needs nothing but itself, and a browser shows it; and
mossc explain of two points. Standard library only; tests named browser_ need a Chromium and are skipped without one.

    python3 tests/explore/test_report.py --mossc build/release/mossc [NAME…]
"""
import csv
import html.parser
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import urllib.parse
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "cli"))
from harness import TINY, Skipped, run_tests  # noqa: E402

SPACE = """\
mossc_space: 1
name: small
spec: tiny.yaml
axes:
  - {name: d, path: d_model, values: [16, 32, 48, 64]}
  - {name: experts, values: [none, 2, 4], paths: ["stack[0].ssm.experts", "stack[1].mlp.experts"], set: {count: $}}
  - {name: k, path: defaults.router.top_k, values: [1, 2], when: experts != none}
  - {name: n, path: "defaults.ssm.d_state", from: 4, to: 16, times: 2}
require: ["experts == none or k < experts"]
devices: [galaxy-s24-ultra, raspberry-pi-5]
workload: {prefill: 48, decode: 32}
budgets: {weight_bytes: 150 KiB, decode_ms: [0.001, 90]}
objectives: [-active_parameters, decode_ms]
"""
DEVICES = ["galaxy-s24-ultra", "raspberry-pi-5"]
VOID = {"meta", "br", "link", "input", "img", "hr"}


def explore(m, *options, space=SPACE, to="out"):
    m.file("tiny.yaml", TINY)
    m.file("space.yaml", space)
    m.run("explore", "space.yaml", "-o", to, *options)
    return m.directory / to


def page_of(directory):
    return (directory / "report.html").read_text(encoding="utf-8")


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1))


def rows_of(directory, name):
    with open(directory / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_rows(data, device, rows, expected):
    axes, metrics = data["summary"]["axes"], [metric["name"] for metric in data["metrics"]]
    wanted = [row for row in expected if row["device"] == device]
    assert len(rows) == len(wanted) > 0, (device, len(rows), len(wanted))
    for (index, choices, spec_hash, values), row in zip(rows, wanted):
        assert str(index) == row["index"] and spec_hash == row["spec_hash"], (index, row)
        assert [axis["values"][choice] for axis, choice in zip(axes, choices)] == [row[axis["name"]] for axis in axes], row
        assert values == [float(row[name]) if row[name] else None for name in metrics], row


def test_page_has_the_rows_of_the_csv_files(m):
    directory = explore(m)
    data = data_of(page_of(directory))
    summary = json.loads((directory / "summary.json").read_text())
    del summary["seconds"], summary["points_per_second"]
    assert data["summary"] == summary and [device["name"] for device in data["devices"]] == DEVICES
    for device in data["devices"]:
        check_rows(data, device["name"], device["front"], rows_of(directory, "front.csv"))
        check_rows(data, device["name"], device["points"], rows_of(directory, "points.csv"))


def test_page_shows_kept_points_only(m):
    data, all_data = (data_of(page_of(explore(m, *options, to=to))) for options, to in (((), "a"), (("--all-points",), "b")))
    assert all_data["summary"]["all_points"] and all_data["summary"]["over_budget"] > 0
    assert [device["points"] for device in data["devices"]] == [device["points"] for device in all_data["devices"]]


def test_page_is_the_same_for_any_threads_and_parts(m):
    whole = page_of(explore(m, "--threads", 1))
    assert page_of(explore(m, "--threads", 3, to="again")) == whole
    for part in (1, 2, 3):
        assert not (explore(m, "--shard", f"{part}/3", to=f"part{part}") / "report.html").exists()
    m.run("explore", "merge", "part2", "part1", "part3", "-o", "joined")
    assert page_of(m.directory / "joined") == whole


def test_page_has_the_spec_of_every_point_of_the_front(m):
    data = data_of(page_of(explore(m)))
    assert set(data["specs"]) == {str(index) for front in data["summary"]["front"].values() for index in front}
    for index in list(data["specs"])[:4]:
        lines = "".join(data["lines"][line] + "\n" for line in data["specs"][index])
        assert lines == m.out("explore", "spec", "out", "--point", index)


def test_page_adds_kernels_up_to_the_metrics(m):
    data = data_of(page_of(explore(m)))
    names = [metric["name"] for metric in data["metrics"]]
    for device in data["devices"]:
        assert set(device["work"]) == {str(row[0]) for row in device["front"]}
        for index, _, _, values in device["front"]:
            for step in ("decode", "prefill"):
                milliseconds = 1e3 * sum(work[6] for work in device["work"][str(index)][step])
                assert abs(milliseconds - values[names.index(f"{step}_ms")]) < 1e-6 * max(1, milliseconds), (index, step)


# A device may be described in any words.
def test_page_keeps_texts_from_being_markup(m):
    specs = pathlib.Path(__file__).resolve().parents[2] / "specs"
    about = "</script><!-- <script> \\ \" & and {{data}}"
    text = (specs / "devices" / "raspberry-pi-5.yaml").read_text()
    m.file("own.yaml", re.sub(r"(?m)^about: .*$", lambda _: f"about: '{about}'", text))
    page = page_of(explore(m, space=SPACE.replace("[galaxy-s24-ultra, raspberry-pi-5]", "[own.yaml]")))
    assert data_of(page)["summary"]["devices"][0]["about"] == about
    assert page.count("</script>") == 2 and "<!--" not in page


class Tags(html.parser.HTMLParser):
    """Elements in order, each with its attributes, its text, and the elements around it. An element that is not closed in its turn is an error."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", "around": list(self.open), **dict(attributes)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", "around": list(self.open), **dict(attributes)})

    def handle_endtag(self, tag):
        assert self.open and self.open[-1]["tag"] == tag, (tag, self.getpos(), self.open[-1:])
        self.open.pop()

    def handle_data(self, text):
        for element in self.open:
            element["text"] += text

    def of(self, tag, style=None, device=None):
        """Elements of a kind, with a class, within the section of a device."""
        return [element for element in self.elements if element["tag"] == tag and (style is None or style in element.get("class", "").split())
                and (device is None or any(outer.get("data-device") == device for outer in element["around"]))]


def test_page_is_whole_and_asks_for_nothing(m):
    page = page_of(explore(m))
    tags = Tags(page)
    assert page.startswith("<!doctype html>") and "{{" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"(?i)https?:|\bsrc\s*=|@import|url\(|fetch\(|XMLHttpRequest|WebSocket", page)
    assert len(tags.of("script")) == 2 and all("src" not in element for element in tags.elements)


def calibrate(directory):
    """calibration.json as `mossc explore calibrate` writes it."""
    points = [{"index": int(row["index"]), "metric": "decode_ms", "measured": round(1.2 * float(row["decode_ms"]), 6), "modelled": float(row["decode_ms"]),
               "calibrated": round(1.21 * float(row["decode_ms"]), 6), "held_out": i % 3 == 0} for i, row in enumerate(rows_of(directory, "front.csv"))]
    metrics = [{"metric": "decode_ms", "fidelity": fidelity, "n": len(points), "mape": error, "median": error, "within_10": 1.0, "spearman": 0.99, "kendall": 0.95}
               for fidelity, error in (("modelled", 0.17), ("calibrated", 0.01))]
    (directory / "calibration.json").write_text(json.dumps({"metrics": metrics, "points": points}))
    return points


def test_page_has_the_calibration(m):
    directory = explore(m)
    assert data_of(page_of(directory))["calibration"] is None
    points = calibrate(directory)
    explore(m)
    assert data_of(page_of(directory))["calibration"]["points"] == points


def write_rows(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure(directory):
    """measured.csv as `mossc explore --measure` writes it, of the last device."""
    rows = [row for row in rows_of(directory, "points.csv") if row["device"] == DEVICES[-1]][::3]
    for row in rows:
        row.update(fidelity="measured", decode_ms=str(round(1.1 * float(row["decode_ms"]), 6)), code_bytes="4096", compile_ms="12.5")
    write_rows(directory / "measured.csv", rows)
    return rows


def test_page_has_what_was_measured(m):
    directory = explore(m)
    rows = measure(directory)
    explore(m)
    data = data_of(page_of(directory))
    assert data["devices"][0]["measured"] == []
    check_rows(data, DEVICES[1], data["devices"][1]["measured"], rows)


# All points cost the same, so that all are on the front.
def test_page_is_bounded(m):
    space = f"""\
mossc_space: 1
name: many
spec: tiny.yaml
axes:
  - {{name: id, path: x-id, from: 1, to: 4096, step: 1}}
  - {{name: twice, path: x-twice, values: [1, 2]}}
devices: [galaxy-s24-ultra]
workload: {{prefill: 8, decode: 8}}
objectives: [parameters, decode_ms]
"""
    directory = explore(m, space=space)
    device = data_of(page_of(directory))["devices"][0]
    assert len(rows_of(directory, "front.csv")) == 8192
    assert len(device["front"]) == len(device["points"]) == 4000 and len(device["work"]) == 1000
    steps = {b[0] - a[0] for a, b in zip(device["points"], device["points"][1:])}
    assert steps <= {2, 3}, steps


# ---------------------------------------------------------------------------------------------- two points


def explain(m, *options):
    return m.json("explain", "out", *options, "--json")


def test_explain_two_points_adds_up_to_the_metrics(m):
    rows = {(row["device"], row["index"]): row for row in rows_of(explore(m), "front.csv")}
    for device in DEVICES:
        indices = [index for name, index in rows if name == device]
        a, b = indices[0], indices[-1]
        result = explain(m, "--point", a, "--point", b, "--device", device)
        assert result["points"] == [int(a), int(b)] and result["device"] == device and result["fidelity"] == "modelled"
        for step, metric in (("token", "decode_ms"), ("prompt", "prefill_ms")):
            for side, index in (("a", a), ("b", b)):
                total = result[step]["total"][side]
                assert abs(1e3 * total["modelled_seconds"] - float(rows[device, index][metric])) < 1e-5
                for key in total:
                    parts = sum(line[side][key] for line in result[step]["phases"])
                    assert abs(parts - total[key]) <= 1e-9 * max(1, abs(total[key])), (step, key)
            differences = [abs(line["difference_seconds"]) for line in result[step]["phases"]]
            assert differences == sorted(differences, reverse=True)


def test_explain_says_why(m):
    data = data_of(page_of(explore(m)))
    front = {tuple(row[1]): row[0] for row in data["devices"][0]["points"]}
    narrow, wide = front[0, 0, 0, 0], front[1, 0, 0, 0]
    text = m.out("explain", "out", "--point", narrow, "--point", wide)
    assert f"A = point {narrow}: d 16*, experts none" in text and f"B = point {wide}: d 32*" in text
    assert re.search(rf"Point {wide} takes \S+ ms more than point {narrow} \(", text), text
    assert f"point {narrow} takes" in explain(m, "--point", wide, "--point", narrow)["token"]["why"]
    same = explain(m, "--point", wide, "--point", wide)["token"]
    assert same["why"].startswith("both take") and same["total"]["difference_seconds"] == 0


def test_explain_refuses_what_is_no_pair(m):
    explore(m)
    assert "give it twice (got 1)" in m.error("explain", "out", "--point", 1, status=2)
    assert "give it twice (got 3)" in m.error("explain", "out", "--point", 1, "--point", 1, "--point", 1, status=2)
    assert "'x'" in m.error("explain", "out", "--point", "x", "--point", 1, status=2)
    assert "--device and --json only" in m.error("explain", "out", "--point", 0, "--point", 1, "--rows", 8, status=2)
    assert "it has galaxy-s24-ultra, raspberry-pi-5" in m.error("explain", "out", "--point", 0, "--point", 1, "--device", "cpu")
    assert "the space has no point 999999" in m.error("explain", "out", "--point", 0, "--point", 999999)
    assert "no study is here" in m.error("explain", ".", "--point", 0, "--point", 1)


# ---------------------------------------------------------------------------------------------- a browser


def browse(m, page, *options):
    """A headless Chromium on a page of the scratch directory, after its script has run."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not program:
        raise Skipped("there is no chromium here")
    name, _, asked = page.partition("#")
    command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={m.directory}/browser", *options,
               (m.directory / name).as_uri() + (f"#{asked}" if asked else "")]
    done = subprocess.run(command, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.decode()


def dom(m, page="out/report.html", *options):
    return Tags(browse(m, page, "--dump-dom", *options))


def test_browser_draws_every_point_and_row(m):
    directory = explore(m)
    tags, data = dom(m), data_of(page_of(directory))
    for device in data["devices"]:
        name, front = device["name"], {row[0] for row in device["front"]}
        assert {int(circle["data-point"]) for circle in tags.of("circle", "front", name) if "data-point" in circle} == front
        others = [circle for circle in tags.of("circle", "point", name) if "data-point" in circle]
        assert len(others) == len(device["points"]) - len(front)
        assert {int(row["data-row"]) for row in tags.of("tr", None, name) if "data-row" in row} == front
        assert len([path for path in tags.of("path", "path", name)]) == len(front)
        assert any("decode_ms ≤ 90" in text["text"] for text in tags.of("text", "budget", name))
        assert len(tags.of("svg", "plot", name)) == 3 + 2 * len(data["summary"]["axes"])
        figures = [element for element in tags.of("figure", None, name)]
        assert figures and all("modelled" in figure["text"] for figure in figures)
    assert not any(element["text"] == "NaN" or "NaN" in str(element.get("d", "")) for element in tags.elements)


def test_browser_shows_the_spec_of_a_point(m):
    explore(m)
    index = data_of(page_of(m.directory / "out"))["devices"][1]["front"][1][0]
    tags = dom(m, f"out/report.html#point={index}&device={urllib.parse.quote(DEVICES[1])}")
    assert [span["text"] for span in tags.of("span", None, DEVICES[1]) if "data-shown" in span] == [str(index)]
    shown = "".join(f"{span['text']}\n" for span in tags.of("span", None, DEVICES[1]) if span["around"][-1].get("class") == "spec")
    assert shown == m.out("explore", "spec", "out", "--point", index)
    assert f"mossc explore spec DIR --point {index}" in "".join(code["text"] for code in tags.of("code", None, DEVICES[1]))
    assert [row["data-row"] for row in tags.of("tr", "chosen", DEVICES[1])] == [str(index)]


def test_browser_shows_the_calibration(m):
    directory = explore(m)
    assert "mossc explore calibrate" in "".join(code["text"] for code in dom(m).of("code"))
    points = calibrate(directory)
    explore(m)
    tags = dom(m)
    marks = [circle for circle in tags.of("circle") if "measured" in circle.get("data-tip", "")]
    assert len(marks) == 2 * len(points) and len([mark for mark in marks if "held" in mark["class"].split()]) == 2 * sum(point["held_out"] for point in points)


def test_browser_tells_measured_from_modelled(m):
    directory = explore(m)
    rows = measure(directory)
    explore(m)
    tags = dom(m)
    assert not [path for path in tags.of("path", "diamond", DEVICES[0])]
    wanted = sorted(int(row["index"]) for row in rows)
    assert sorted(int(path["data-point"]) for path in tags.of("path", "diamond", DEVICES[1]) if "data-point" in path) == wanted
    table = [row for row in tags.of("tr", None, DEVICES[1]) if "data-measured" in row]
    assert sorted(int(row["data-measured"]) for row in table) == wanted and all("-9.1 %" in row["text"] for row in table)


def test_browser_draws_objectives_that_only_measured_points_have(m):
    judged = SPACE.replace(next(line for line in SPACE.splitlines() if line.startswith("objectives")), "objectives: [quality, decode_ms]")
    directory = explore(m, space=judged + 'quality: {command: "false"}\n')
    tags = dom(m)
    assert tags.of("path", "path", DEVICES[1]) and not any("NaN" in str(element.get("d", "")) or element["text"] == "NaN" for element in tags.elements)
    rows = measure(directory)
    for number, row in enumerate(rows):
        row["quality"] = str(2 + number / 8)
    write_rows(directory / "measured.csv", rows)
    explore(m, space=judged + 'quality: {command: "false"}\n')
    tags = dom(m)
    diamonds = [path for path in tags.of("path", "diamond", DEVICES[1]) if "data-point" in path]
    assert len(diamonds) == len(rows) and len({path["d"] for path in diamonds}) == len(rows), "each at its quality"
    assert not any("NaN" in str(element.get("d", "")) or element["text"] == "NaN" for element in tags.elements)


# What a script at the page's end sees: a copy of the page reports it in its title.
def asked_of_page(m, script, *options):
    page = page_of(m.directory / "out")
    m.file("asked.html", page.replace("</body>", f"<script>{script}</script></body>"))
    return dom(m, "asked.html", *options).of("title")[0]["text"]


def test_browser_needs_no_scrolling_aside(m):
    explore(m)
    for width in (1000, 1600):
        shown = asked_of_page(m, "document.title = `${document.documentElement.scrollWidth} ${innerWidth}`", f"--window-size={width},900")
        assert shown == f"{width} {width}", shown


def test_browser_follows_clicks_and_keys(m):
    explore(m)
    device = data_of(page_of(m.directory / "out"))["devices"][0]
    target = device["front"][2][0]
    click = f"document.querySelector('#device-0 circle.front[data-point=\"{target}\"]').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))"
    read = "document.title = document.querySelector('#device-0 [data-shown]').textContent + location.hash"
    assert asked_of_page(m, f"{click};{read}") == f"{target}#point={target}&device={device['name']}"
    key = "const plot = document.querySelector('#device-0 svg[data-keys]'); plot.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}))"
    assert asked_of_page(m, f"{click};{key};{read}").split("#")[0] != str(target)


def picture(path):
    """Width, height and the number of different rows of pixels of a PNG."""
    content = path.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    packed, at = b"", 8
    while at < len(content):
        size, kind = struct.unpack(">I4s", content[at : at + 8])
        packed += content[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += size + 12
    lines = zlib.decompress(packed)
    stride = len(lines) // height
    return width, height, len({lines[i : i + stride] for i in range(0, len(lines), stride)})


def test_browser_paints_and_prints(m):
    explore(m)
    for width in (1000, 1600):
        path = m.directory / f"{width}.png"
        browse(m, "out/report.html", f"--window-size={width},1400", f"--screenshot={path}")
        wide, high, different = picture(path)
        assert (wide, high) == (width, 1400) and different > 400, (wide, high, different)
    browse(m, "out/report.html", "--no-pdf-header-footer", f"--print-to-pdf={m.directory}/page.pdf")
    content = (m.directory / "page.pdf").read_bytes()
    pages = len(re.findall(rb"/Type\s*/Page\b", content))
    assert content.startswith(b"%PDF") and 4 <= pages <= 30, pages


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
