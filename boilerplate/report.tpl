<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ css|safe }}
</style>
</head>
<body>
<nav aria-label="Sections">
<p class="brand">{{ title }}</p>
<ul>
{% for section in sections %}
<li><a href="#{{ section.name }}">{{ section.title }}</a>
{% for block in section.blocks if block.run %}
{% if loop.first %}
<ul>
{% endif %}
<li><a href="#{{ block.name }}">{{ block.run }}</a></li>
{% if loop.last %}
</ul>
{% endif %}
{% endfor %}
</li>
{% endfor %}
</ul>
</nav>
<main>
<header><h1>{{ title }}</h1></header>
{% for section in sections %}
<section id="{{ section.name }}">
<h2>{{ section.title }}</h2>
{% for block in section.blocks %}
<div class="reportlet" id="{{ block.name }}">
{% if block.run %}
<h3 class="run">{{ block.run[:1]|upper }}{{ block.run[1:] }}</h3>
{% endif %}
{% if block.subtitle %}
<h4>{{ block.subtitle }}</h4>
{% endif %}
{% for panel in block.panels %}
<figure>
{% if panel.heading %}
<h4>{{ panel.heading }}</h4>
{% endif %}
{{ panel.content }}
{% if panel.caption %}
<figcaption>{{ panel.caption }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
{% endfor %}
{% if section.on_request %}
<p class="missing">Made on request only, and not here: {{ section.on_request|join("; ") }}.</p>
{% endif %}
{% if section.missing %}
<p class="missing">Not in this report: {{ section.missing|join("; ") }}.</p>
{% endif %}
</section>
{% endfor %}
<footer>For research, not for clinical use.</footer>
</main>
</body>
</html>
