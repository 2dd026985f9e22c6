<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rating of maps</title>
<style>{{ css }}
main { margin: 0 auto; padding: 1rem; max-width: 76rem; }
.pair { margin: 0 0 1.6rem; padding: .6rem 1rem 1rem; border: 1px solid var(--line); }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: .6rem 1rem; }
.maps figure { margin: 0; }
.maps img { width: 100%; image-rendering: pixelated; background: #000; }
fieldset { display: inline-block; margin: .6rem 1.4rem 0 0; border: 1px solid var(--line); }
fieldset label { margin-right: 1rem; }
.bar { position: sticky; bottom: 0; padding: .5rem 1rem; border-top: 1px solid var(--line); background: var(--paper); }
</style></head>
<body><main>
<h1>Rating of maps</h1>
<p>Each pair shows two t maps of the same run in the same planes and on one color scale (red: positive, blue: negative).
Say which of the two is finer, and which is truer: nearer to what the brain did. <em>Equal</em> is an answer. Nothing is
sent anywhere: download the ratings at the end and give the file back.</p>
<form id="ratings" data-sheet="{{ sheet }}" data-rater="{{ rater }}">
{% for item in items %}
<section class="pair" aria-label="Pair {{ loop.index }} of {{ items|length }}"><h2>Pair {{ loop.index }} of {{ items|length }}</h2>
<div class="maps">
{% for side in ("left", "right") %}<figure><figcaption>{{ side|capitalize }}</figcaption><img src="{{ item[side] }}" alt="{{ side|capitalize }} map of pair {{ item.number }}"></figure>
{% endfor %}
{% if item.reference %}<figure><figcaption>Measured at high resolution</figcaption><img src="{{ item.reference }}" alt="Measured map of pair {{ item.number }}"></figure>{% endif %}
</div>
{% for question, text in questions %}<fieldset><legend>{{ text }}</legend>
{% for answer in ("left", "equal", "right") %}<label><input type="radio" name="{{ question }}-{{ item.number }}" value="{{ answer }}"> {{ answer|capitalize }}</label>{% endfor %}
</fieldset>{% endfor %}
</section>
{% endfor %}
<div class="bar"><button type="submit">Download ratings (TSV)</button> <span id="state" role="status">0 of {{ items|length * questions|length }} answered</span></div>
</form>
<script>
"use strict";
const form = document.getElementById("ratings"), state = document.getElementById("state");
const items = {{ items|length }}, questions = {{ questions|map("first")|list|tojson }};
const given = (question, item) => { const found = form.querySelector(`input[name="${question}-${item}"]:checked`); return found ? found.value : "n/a"; };
function lines() {
  const out = [["sheet", "rater", "item", ...questions].join("\t")];
  for (let item = 1; item <= items; item++)
    out.push([form.dataset.sheet, form.dataset.rater, item, ...questions.map((question) => given(question, item))].join("\t"));
  return out.join("\n") + "\n";
}
form.addEventListener("change", () => {
  state.textContent = `${form.querySelectorAll("input:checked").length} of ${items * questions.length} answered`;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines()], { type: "text/tab-separated-values" }));
  link.download = `ratings_${form.dataset.sheet}.tsv`;
  link.click();
  state.textContent = `${link.download} was downloaded`;
});
</script>
</main></body></html>
