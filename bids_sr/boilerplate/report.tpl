<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data: blob:; object-src data:; frame-src data:; style-src 'unsafe-inline'; script-src 'sha256-{{ digest }}'">
<title>{{ title }}</title>
<style>
{{ css|safe }}
</style>
</head>
{% macro contents(section) %}
{% for group in section.groups %}
{% set level = "h4" if group[0].run else "h3" %}
<div class="part"{% if group[0].run %} id="{{ group[0].name }}-run"{% endif %}{% if group|selectattr("tab")|list|length > 1 %} data-tabs{% endif %}>
{% if group[0].run %}
<h3 class="run">{{ group[0].run[:1]|upper }}{{ group[0].run[1:] }}</h3>
{% endif %}
{% for block in group %}
<div class="reportlet" id="{{ block.name }}"{% if block.tab %} data-tab="{{ block.tab }}"{% endif %}>
{% if block.subtitle %}
<{{ level }}>{{ block.subtitle }}</{{ level }}>
{% endif %}
<div class="panels"{% if block.panels|length > 1 %} data-choose{% endif %}>
{% for panel in block.panels %}
<figure{% for name, value in panel.choices.items() %} data-{{ name }}="{{ value }}"{% endfor %}>
{% if panel.heading %}
<{{ level }}>{{ panel.heading }}</{{ level }}>
{% endif %}
{{ panel.content }}
{% if panel.caption %}
<figcaption>{{ panel.caption }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
{% if block.caption %}
<p class="caption">{{ block.caption }}</p>
{% endif %}
{% if block.tables %}
<p class="caption">All values: {% for table in block.tables %}<a href="{{ table }}">{{ table.split("/")[-1] }}</a>{{ ", " if not loop.last }}{% endfor %}</p>
{% endif %}
</div>
{% endfor %}
</div>
{% endfor %}
{% if section.on_request %}
<p class="missing">The following analyses were not requested (options in parentheses): {{ section.on_request|join("; ") }}.</p>
{% endif %}
{% if section.missing %}
<p class="missing">The following items are {{ "still computed" if unfinished else "not available" }}: {{ section.missing|join("; ") }}.</p>
{% endif %}
{% endmacro %}
{% macro fold(name, title, incomplete) %}
<details class="fold"><summary><h2{% if name %} id="{{ name }}-title"{% endif %}>{{ title }}</h2>{% if incomplete %} <span class="badge">not complete</span>{% endif %}</summary>
{{ caller() }}
</details>
{% endmacro %}
<body{% if runs|length == 1 %} class="one-run"{% endif %}>
<a class="skip" href="#content">Skip to the content</a>
<main id="content" tabindex="-1">
<header><h1>{{ title }}</h1>
{% if crashed %}
<a class="chip failed" href="#errors">! Some steps failed</a>
{% endif %}
{% if runs|length > 1 %}
<nav aria-label="Runs">{% for anchor, run in runs.items() %}<a class="chip" href="#{{ anchor }}">{{ run }}</a> {% endfor %}</nav>
{% endif %}
</header>
{% for fold_title, fold_sections in folds %}
{% if fold_title %}
{% call fold("", fold_title, crashed and fold_sections|selectattr("missing")|list) %}
{% for section in fold_sections %}
<section id="{{ section.name }}" aria-labelledby="{{ section.name }}-title"><details class="fold inner"><summary><h3 id="{{ section.name }}-title">{{ section.title }}</h3></summary>
{{ contents(section) }}
</details></section>
{% endfor %}
{% endcall %}
{% else %}
{% for section in fold_sections %}
<section id="{{ section.name }}" aria-labelledby="{{ section.name }}-title">
{% if section.folded %}
{% call fold(section.name, section.title, crashed and section.missing) %}
{{ contents(section) }}
{% endcall %}
{% else %}
<h2 id="{{ section.name }}-title" class="{{ "title" if section.name not in ("overview", "participant") else "unseen" }}">{{ section.title }}</h2>
{{ contents(section) }}
{% endif %}
</section>
{% endfor %}
{% endif %}
{% endfor %}
{% if home %}
{% call fold("", "Do not conclude", false) %}
<ul>
<li>that a single voxel is right because its contrast has a yes: it is about patterns of several voxels. Read signs of voxels in the mask, sizes in regions.</li>
<li>that nothing is active outside the mask, or where the answer is no or not testable: these are answers on fine detail.</li>
<li>that another contrast, run or participant is as accurate, or that detail is right because the test at half the resolution was passed: a compact patch that also fluctuates without the task passes it, and is wrong.</li>
<li>that nothing changed because no change was found: read the interval and the smallest change that would have been found.</li>
<li>that the largest effects are the most active tissue: they are often veins, millimeters away.</li>
</ul>
<p>Why, and with which numbers: <em>Limits</em> and <em>Reading the report</em> in the <a href="{{ home }}">manual</a>. Questions and errors: the issue tracker there; add <code>logs/latest</code>, never images.</p>
{% endcall %}
{% endif %}
<footer>
<p class="tools">
{% for kind, count in notice_counts.items() if count %}
<a class="chip" href="#summary">{{ count }} {{ kind }}{{ "s" if count > 1 }}</a>
{% endfor %}
{% for text, place in neighbors.items() %}
<a class="chip" href="{{ place }}">{{ text }}</a>
{% endfor %}
<button type="button" class="scripted" data-do="unfold">Expand all</button>
<button type="button" class="scripted" data-do="print">Print</button>
</p>
<p>For research, not for clinical use.</p></footer>
</main>
<script>{{ script|safe }}</script>
</body>
</html>
