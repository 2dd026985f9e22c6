{# Pieces of the report. Arguments are plain text, escaped here, or markup made by these macros. #}
{% macro table(caption, heads, rows, names=1, texts=()) %}
<div class='wide' tabindex='0' role='region' aria-label='{{ caption }}'><table class='metrics'><caption>{{ caption }}</caption><thead><tr>
{% for text, unit in heads %}
<th scope='col'{% if loop.index0 in texts %} class='text'{% endif %}>{{ text }}{% if unit is not none %}<br><small>{{ unit }}</small>{% endif %}</th>
{% endfor %}
</tr></thead><tbody>
{% for row in rows %}
<tr>{% for content in row %}{% if loop.index0 < names %}<th scope='row'>{{ content }}</th>{% else %}<td{% if loop.index0 in texts %} class='text'{% endif %}>{{ content }}</td>{% endif %}{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}

{% macro picked(entries) %}
<div class='pick' data-pick>{% for title, content in entries %}<div data-title="{{ title }}">{{ content }}</div>{% endfor %}</div>
{% endmacro %}

{% macro by_contrast(entries) %}
{% for name, content in entries %}<div{% if entries|length > 1 %} data-for="{{ name }}"{% endif %}>{{ content }}</div>{% endfor %}
{% endmacro %}

{% macro value(text, small="", bold=false) %}
{% if bold %}<strong>{{ text }}</strong>{% else %}{{ text }}{% endif %}{% if small %}<br><small>{{ small }}</small>{% endif %}
{% endmacro %}

{% macro folded(title, content) %}
<details><summary>{{ title }}</summary>{{ content }}</details>
{% endmacro %}

{% macro messages(kind, items) %}
{% for item in items %}<p class='{{ kind }}' role='note'><strong>{{ kind|capitalize }}.</strong> {{ item }}</p>{% endfor %}
{% endmacro %}

{% macro items(texts, bold=false, kind="") %}
{% if texts %}<ul{% if kind %} class='{{ kind }}'{% endif %}>{% for text in texts %}<li>{% if bold %}<strong>{{ text }}</strong>{% else %}{{ text }}{% endif %}</li>{% endfor %}</ul>{% endif %}

{% endmacro %}

{% macro places(datasets, label) %}
{% if datasets %}<p>For XCP-D, fitlins, nilearn: {% for name in datasets %}<code>{{ name }}</code>{{ ", " if not loop.last }}{% endfor %} (one preprocessed series per run and space). All series and maps: <code>sub-{{ label }}/</code>.</p>{% endif %}

{% endmacro %}

{% macro paper(formats, text) %}
<p>We recommend that you include the following text in the methods section of your paper, together with its citations ({% for suffix, name in formats.items() %}<a href="CITATION.{{ suffix }}">{{ name }}</a>{{ ", " if not loop.last }}{% endfor %}). You may modify and reuse the text freely.</p>{{ bounded("Methods text", text) }}
{% endmacro %}

{% macro facts(mapping) %}
<table class='facts'>{% for key, value in mapping.items() %}<tr><th scope='row'>{{ key }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% endmacro %}

{% macro glossary(entries) %}
<dl>{% for term, text in entries %}<dt>{{ term }}</dt><dd>{{ text }}</dd>{% endfor %}</dl>
{% endmacro %}

{% macro verdict(points, table, limits) %}
{{ items(points, kind="sentences") }}{{ table }}
{% if limits %}<h4>Limitations</h4>{{ items(limits) }}{% endif %}
{% endmacro %}

{% macro whisker(value, lower, upper, zero, all, tested, kind) %}
<svg class="whisker {{ kind }}" width="90" height="14" aria-hidden="true"><path d="M{{ zero }} 1v12M{{ all }} 1v12" class="axis"/>{% if lower is not none %}<path d="M{{ lower }} 7H{{ upper }}" class="line"/>{% endif %}<circle cx="{{ value }}" cy="7" r="4"{% if tested %} class="hollow"{% endif %}/></svg>
{% endmacro %}

{% macro picture(shape, slice, square, groups, subject, limit, unit, bar) %}
<div class="picture" style="grid-template-columns: 6rem repeat({{ groups|map(attribute=2)|map("length")|sum }}, minmax(0, 17rem))">
<div></div>
{% for title, note, panels in groups %}
<div class="group" style="grid-column: span {{ panels|length }}">{{ title }}{% if note %} <small>{{ note }}</small>{% endif %}</div>
{% endfor %}
<div class="locator"><span>L</span><span>R</span><svg viewBox="0 0 {{ shape[1] }} {{ shape[0] }}" role="img" aria-label="axial slice with the square"><image href="{{ slice }}" width="{{ shape[1] }}" height="{{ shape[0] }}" preserveAspectRatio="none"/><rect x="{{ square.x }}" y="{{ shape[0] - square.y - square.side }}" width="{{ square.side }}" height="{{ square.side }}" fill="none" stroke="#e69f00" stroke-width="{{ "%.2g"|format(shape[1] / 60) }}"/></svg><p>{{ unit }}</p><div class="scale"><img class="bar" src="{{ bar }}" alt=""><p>{{ limit }}<br>0<br>−{{ limit }}</p></div><p class="minus">− below 0</p></div>
{% for title, note, panels in groups %}{% for name, remark, pixels, lines in panels %}
<figure><figcaption><b>{{ name }}</b> {{ remark }}</figcaption><svg viewBox="0 0 {{ square.side }} {{ square.side }}" role="img" aria-label="{{ subject }}: {{ name }} {{ remark }}"><image href="{{ pixels }}" width="{{ square.side }}" height="{{ square.side }}" preserveAspectRatio="none"/>{% for path, width, kind in lines %}<path class="{{ kind }}" d="{{ path }}" fill="none" stroke="#111" stroke-width="{{ width }}"/>{% endfor %}</svg></figure>
{% endfor %}{% endfor %}
</div>
{% endmacro %}

{% macro answers(rows) %}{% for row in rows %}
<tr><th scope="row">{{ row.title }}</th>{% for cell in row.cells %}<td class="{{ cell.mark.css_class }}"><span aria-hidden="true">{{ cell.mark.symbol }}</span> <b>{{ cell.answer }}</b>{% if cell.reason %}: {{ cell.reason }}{% endif %}</td><td class="num">{{ cell.interval }}{{ cell.number }}</td>{% endfor %}</tr>
{% endfor %}{% endmacro %}

{% macro use(rows) %}
<div><h3>Use</h3><table class="use">{% for row in rows %}<tr><th scope="row">{{ row.label }}</th><td>{% if row.file %}<a href="{{ row.file }}"><code>{{ row.file.split("/")[-1].split("_res-hr_")[-1].split("_space-boldref_")[-1].split("_space-firstBoldref_")[-1] }}</code></a>{% endif %}{{ row.text }}{% if row.remark %} <small>{{ row.remark }}</small>{% endif %}</td></tr>{% endfor %}</table></div>
{% endmacro %}

{% macro answer(view) %}
{{ view.picture }}
<p class="answer {{ view.kind }}">{{ view.sentence }}</p>
{% endmacro %}

{% macro first_screen(screen, pictures, uses, rows, hidden, n_hidden) %}
<div class="first" data-contrasts="{{ screen.views|map(attribute="contrast")|join("|") }}" data-names="{{ screen.views|map(attribute="name")|join("|") }}">
<div class="line"><h2>{{ screen.title }}</h2><p>{{ screen.facts }}</p></div>
{% for alert in screen.alerts %}<p class="warning" role="note">{{ alert }}</p>{% endfor %}
{{ by_contrast(pictures) }}
<div class="columns">
{% if rows %}
<div><table class="answers"><thead>{% if screen.heads.question %}<tr><td></td><th colspan="4">{{ screen.heads.question }} <small>{{ screen.heads.key }}</small></th></tr>{% endif %}<tr><th scope="col">{{ screen.heads.name }}</th>{% for answer in screen.heads.answers %}<th scope="col">{{ answer }}</th><th scope="col">{% if rows|map(attribute="cells." ~ loop.index0 ~ ".interval")|select|list %}<span class="axis"><small>0</small><small>100</small></span>{% endif %}{{ screen.heads.number }}</th>{% endfor %}</tr></thead><tbody>{{ answers(rows) }}</tbody></table>
{% if hidden %}<details><summary>{{ n_hidden }} more</summary><table class="answers"><tbody>{{ answers(hidden) }}</tbody></table></details>{% endif %}</div>
{% endif %}
{{ by_contrast(uses) }}
</div></div>
{% endmacro %}

{% macro checks(chips) %}
<ul class='chips'>{% for chip in chips %}<li><a class='chip {{ "passed" if chip.passed else "failed" }}' href='#{{ chip.section }}'>{{ "✓" if chip.passed else "!" }} {{ chip.text }}</a></li>{% endfor %}</ul>
{% endmacro %}

{% macro results(paragraph) %}
<div class="paper"><p>{{ paragraph }}</p><button type="button" class="scripted" data-copy>Copy</button></div>
{% endmacro %}

{% macro viewer(content, statistic, least, left_out, stored, outlined) %}
<div class='viewer' data-viewer><p class='unscripted'>The viewer requires JavaScript and a browser released in 2023 or later.</p>
<script type='application/json'>{{ content }}</script></div>
<p class='caption'>Each map is shown on its own voxel grid, without interpolation. All series share one color scale.{% if outlined %} White lines: mask of voxels to show.{% endif %} Values are shown where |{{ statistic }}| exceeds the threshold (slider), and are not included where |{{ statistic }}| &lt; {{ least }}. {% if stored %}If the complete map was stored, a link to the file is shown below the viewer.{% else %}At this output level (<code>--level</code>), maps are not stored.{% endif %}{% if left_out %} Omitted to limit the size of the page: {% for smoothing, contrasts in left_out.items() %}{{ contrasts|join(", ") }} (smoothing: {{ smoothing }}){{ "." if loop.last else "; " }}{% endfor %}{% endif %}</p>
<p class='caption scripted'>Click on a plane to move the crosshair, and scroll to change the slice. After a click, the arrow keys (<kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd>) move the crosshair by one voxel in the axial plane. <kbd>Page up</kbd> and <kbd>Page down</kbd> move it by one slice. Press <kbd>b</kbd> to switch back to the previous series.</p>
{% endmacro %}

{% macro peak(text, at, contrast, series, smoothing) %}<span data-peak="{{ at }}" data-contrast="{{ contrast }}" data-series="{{ series }}" data-smoothing="{{ smoothing }}">{{ text }}</span>{% endmacro %}

{% macro decision(words, text="") %}<span class='decision'>{{ words }}</span> {{ text }}{% endmacro %}

{% macro figure(uri, label, caption=none, name="figure") %}
<figure><img src="{{ uri }}" alt="{{ label }}" data-name="{{ name }}">{% if caption is not none %}<figcaption>{{ caption }}</figcaption>{% endif %}</figure>
{% endmacro %}

{% macro box(title, lines) %}
{% if lines %}<div class='warning'><strong>{{ title }}</strong>{{ items(lines) }}</div>{% endif %}
{% endmacro %}

{% macro headed(title, content) %}{% if content %}<h3>{{ title }}</h3>{{ content }}{% endif %}{% endmacro %}

{% macro crashes(entries) %}
{% if entries %}
<p class="warning"><strong>{{ entries|length }} step{{ "s" if entries|length > 1 }} failed.</strong> Results that depend on {{ "these steps" if entries|length > 1 else "this step" }} are missing from the report.</p>
{% else %}
<p class="fine">No errors to report!</p>
{% endif %}
{% for notice, file, tail, text in entries %}
<h4>{{ notice.what }}</h4><p>{{ notice.why }}</p><p><strong>What to do:</strong> {{ notice.remedy }}</p>
{% if text %}<p>File: <code>{{ file }}</code></p><pre tabindex="0">{{ tail }}</pre>{{ folded("Complete crash file", source(text)) }}{% endif %}

{% endfor %}
{% endmacro %}

{% macro bounded(label, content) %}<div class='wide' tabindex='0' role='region' aria-label='{{ label }}'>{{ content }}</div>{% endmacro %}

{% macro source(text) %}<pre tabindex='0'>{{ text }}</pre>{% endmacro %}

{% macro note(kind, text) %}<p class="{{ kind }}">{{ text }}</p>{% endmacro %}

{% macro references(entries) %}
<h3>References</h3>
<ol class="references">{% for key, text in entries %}<li id="ref-{{ key }}">{{ text }}</li>{% endfor %}</ol>
{% endmacro %}

{% macro page(title, css, content) %}
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<style>{{ css }} main { margin: 0 auto; max-width: 50rem; }</style></head>
<body><main>
{{ content }}
</main></body></html>
{% endmacro %}
