"""`preview` and `check` with templates, as a user runs them."""

from support.site import Site


def test_preview_shows_past_events_and_a_broken_template_stops_everything(site: Site) -> None:
    sinks, templates = f"{site.receiver.url}#crm console:", site.home / "templates"
    templates.mkdir()
    template = templates / "shop.order.new.txt.j2"
    template.write_text("Paid: {{ number }}, {{ total }}\n", encoding="utf-8")
    site.settings |= {"SHOP_NOTIFY_URLS": sinks, "SHOP_LOCALE": "en"}
    first = site.run("preview", "--event", "new", "--sink", "console:")
    assert (first.code, first.lines[0]) == (0, "no such event is stored; these are examples")
    assert first.lines[1:3] == ["example: new  shop.order.new", "  console:"]
    assert not site.state.exists()

    order = site.shop.create_order("processing")
    assert site.once().code == 0
    site.settings["SHOP_TEMPLATES"] = str(templates)
    before = site.files()[site.state.name]
    done = site.run("preview", "--since", "yesterday", "--sink", "console:")
    assert (done.code, done.complaints) == (0, [])
    assert done.lines[0].endswith(f"  shop.order.new  {order}")
    assert done.lines[1] == "  console: (differs from what was sent)"
    assert any(line.startswith("    - ") and f"New order #{order}" in line for line in done.lines)
    assert any(line.startswith("    + ") and f"Paid: {order}, " in line for line in done.lines)
    assert site.files()[site.state.name] == before
    assert "templates: 1 in" in site.run("check").stdout

    template.write_text("\n{{ totl }}\n", encoding="utf-8")
    problem = f"SHOP_TEMPLATES: {template}, line 2: there is no value totl; did you mean total?"
    for command in (["run"], ["run", "--once"], ["check"], ["notify-test"], ["preview"]):
        stopped = site.run(*command)
        assert (stopped.code, stopped.complaints) == (2, [f"shop-poller: {problem}"]), command
    assert site.run("status").code == 3, "no daemon runs, but what sends nothing needs no template"


def test_preview_names_what_it_does_not_know(site: Site) -> None:
    for options, problem in (
        (["--event", "nothing"], "there is no event 'nothing'; there are "),
        (["--sink", "nothing"], "no sink is named 'nothing' in the settings; known sinks: "),
        (["--since", "soon"], "should be yesterday, today, an age such as 3d or 12h, or a date"),
    ):
        done = site.run("preview", *options)
        assert done.code == 2
        assert problem in " ".join(done.stderr.replace("│", " ").split())


def test_shops_that_share_a_broken_template_are_not_watched(site: Site) -> None:
    site.name_shops({"a.example": site.served.url, "b.example": site.served.url})
    config, templates = site.home / "shops.toml", site.home / "templates"
    templates.mkdir()
    (templates / "default.txt.j2").write_text("{{ nothing }}", encoding="utf-8")
    site.settings |= {"SHOP_TEMPLATES": str(templates), "SHOP_NOTIFY_URLS": "console:"}
    problem = f"SHOP_TEMPLATES: {templates}/default.txt.j2, line 1: there is no value nothing"
    for command in (["run"], ["shops", "check"], ["preview", "--shop", "a.example"]):
        stopped = site.run(*command, "--config", str(config))
        assert stopped.code == 2, command
        (complaint,) = stopped.complaints
        assert complaint.startswith(f"shop-poller: {problem}")
    (templates / "default.txt.j2").write_text("{{ shop }}: {{ title }}", encoding="utf-8")
    assert site.run("preview", "--shop", "b.example", "--config", str(config)).code == 0
