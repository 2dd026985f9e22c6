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
{% if section.groups %}
<ul>
{% for group in section.groups %}
<li><a href="#{{ group.anchor }}">{{ group.label }}</a></li>
{% endfor %}
</ul>
{% endif %}
</li>
{% endfor %}
</ul>
</nav>
<main>
<header><h1>{{ title }}</h1></header>
{% for section in sections %}
<section id="{{ section.name }}">
<h2>{{ section.title }}</h2>
{% for reportlet in section.reportlets %}
<div class="reportlet" id="{{ reportlet.name }}">
{% if reportlet.title %}
<h3 class="run">{{ reportlet.title }}</h3>
{% endif %}
{% if reportlet.subtitle %}
<h4>{{ reportlet.subtitle }}</h4>
{% endif %}
{% for content, caption in reportlet.components %}
<figure>
{{ content|safe }}
{% if caption %}
<figcaption>{{ caption }}</figcaption>
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
