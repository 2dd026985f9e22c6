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
<body{% if one_run %} class="one-run"{% endif %}>
<a class="skip" href="#content">Skip to the content</a>
<nav aria-label="Sections">
<p class="brand">{{ title }}</p>
<button type="button" class="scripted menu" data-do="menu" aria-expanded="false" aria-controls="sections">Sections</button>
<ul id="sections">
{% for section in sections %}
<li><a href="#{{ section.name }}">{{ section.title }}</a>
{% for block in section.blocks if block.run %}
{% if loop.first %}
<ul>
{% endif %}
<li><a href="#{{ block.name }}-run">{{ block.run }}</a></li>
{% if loop.last %}
</ul>
{% endif %}
{% endfor %}
</li>
{% endfor %}
</ul>
</nav>
<main id="content" tabindex="-1">
<header><h1>{{ title }}</h1>
<p class="tools">
{% if crashed %}
<a class="chip failed" href="#errors">! Some steps failed</a>
{% endif %}
{% for kind, count in notice_counts.items() if count %}
<a class="chip" href="#{{ "overview" if kind == "warning" else "summary" }}">{{ count }} {{ kind }}{{ "s" if count > 1 }}</a>
{% endfor %}
{% for text, place in neighbors.items() %}
<a class="chip" href="{{ place }}">{{ text }}</a>
{% endfor %}
<button type="button" class="scripted" data-do="unfold">Expand all</button>
<button type="button" class="scripted" data-do="print">Print</button>
</p></header>
{% for section in sections %}
<section id="{{ section.name }}" aria-labelledby="{{ section.name }}-title">
{% if section.folded %}
<details class="fold"><summary><h2 id="{{ section.name }}-title">{{ section.title }}</h2>{% if section.missing and crashed %} <span class="badge">not complete</span>{% endif %}</summary>
{% else %}
<h2 id="{{ section.name }}-title">{{ section.title }}</h2>
{% endif %}
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
<p class="missing">The following items are not available: {{ section.missing|join("; ") }}.</p>
{% endif %}
{% if section.folded %}
</details>
{% endif %}
</section>
{% endfor %}
<footer>For research, not for clinical use.</footer>
</main>
<script>{{ script|safe }}</script>
</body>
</html>
