// The page without this script shows everything at once; with it figures are chosen, and what is folded opens for print.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  document.documentElement.classList.add("js");

  // One contrast for the whole page: a list in each first screen sets what is shown of each contrast.
  const choose = (contrast) => document.dispatchEvent(new CustomEvent("contrast", { detail: contrast }));
  const lists = [];
  for (const screen of all("[data-contrasts]")) {
    const names = screen.dataset.contrasts.split("|");
    if (names.length < 2) continue;
    const titles = screen.dataset.names.split("|");
    const list = make("select", {}, ...names.map((value, k) => make("option", { value, textContent: titles[k] })));
    list.addEventListener("change", () => choose(list.value));
    screen.querySelector(".line").append(make("label", {}, "contrast ", list));
    lists.push(list);
  }
  document.addEventListener("contrast", ({ detail }) => {
    document.documentElement.dataset.contrast = detail;
    for (const list of lists) if (list.querySelector(`[value="${detail}"]`)) list.value = detail;
    for (const part of all("[data-for]")) {
      const others = [...part.parentElement.children];
      if (others.some((each) => each.dataset.for === detail)) part.classList.toggle("away", part.dataset.for !== detail);
    }
  });
  for (const part of all("[data-for] + [data-for]")) part.classList.add("away");

  // One figure of several: a row of buttons for each entity that has more than one value.
  for (const panels of all("[data-choose]")) {
    const figures = all(":scope > figure", panels);
    const names = ["contrast", "smoothing"].filter((name) => new Set(figures.map((f) => f.dataset[name])).size > 1);
    if (!names.length || figures.some((f) => !f.dataset.contrast)) continue;
    const chosen = Object.fromEntries(names.map((name) => [name, figures[0].dataset[name]]));
    const show = () => {
      for (const figure of figures) figure.classList.toggle("away", names.some((n) => figure.dataset[n] !== chosen[n]));
      for (const button of all("button", bar)) {
        button.setAttribute("aria-pressed", chosen[button.dataset.name] === button.dataset.value);
      }
    };
    const bar = make("div", { className: "choices" });
    for (const name of names) {
      const group = make("div", { role: "group" }, make("span", { textContent: `${name} ` }));
      group.setAttribute("aria-label", name);
      for (const value of new Set(figures.map((f) => f.dataset[name]))) {
        const button = make("button", { type: "button", textContent: value.replace(" (FWHM)", "") });
        Object.assign(button.dataset, { name, value });
        button.addEventListener("click", () => {
          if (name === "contrast") choose(value);
          chosen[name] = value;
          show();
        });
        group.append(button);
      }
      bar.append(group);
    }
    panels.prepend(bar);
    show();
    document.addEventListener("contrast", ({ detail }) => {
      if (figures.some((figure) => figure.dataset.contrast === detail)) chosen.contrast = detail;
      show();
    });
  }
  if (lists.length) choose(lists[0].value);

  // One table of several: a list of their titles.
  let picks = 0;
  for (const box of all("[data-pick]")) {
    const tables = all(":scope > [data-title]", box);
    const list = make("select", { id: `pick-${picks += 1}` }, ...tables.map((t, k) => make("option", { value: k, textContent: t.dataset.title })));
    const show = () => tables.forEach((table, k) => table.classList.toggle("away", k !== Number(list.value)));
    list.addEventListener("change", show);
    box.prepend(make("div", { className: "choices" }, make("label", { htmlFor: list.id, textContent: "show" }), list));
    show();
  }

  // One tab of several in the part of a run; what has no tab goes with the one before it.
  const tabs = [];
  for (const part of all("[data-tabs]")) {
    const names = [];
    const bar = make("div", { className: "choices tabs", role: "group" });
    bar.setAttribute("aria-label", "figures of this section");
    for (const block of all(":scope > .reportlet", part)) {
      if (block.dataset.tab && names.at(-1) !== block.dataset.tab) {
        if (!names.length) block.before(bar);
        names.push(block.dataset.tab);
      }
      if (names.length) block.dataset.of = names.at(-1);
    }
    const show = (name) => {
      for (const block of all(":scope > [data-of]", part)) block.classList.toggle("away", block.dataset.of !== name);
      for (const button of bar.children) button.setAttribute("aria-pressed", button.textContent === name);
    };
    for (const name of names) {
      const button = make("button", { type: "button", textContent: name });
      button.addEventListener("click", () => show(name));
      bar.append(button);
    }
    tabs.push([part, show]);
    show(names[0]);
  }

  // Every figure can be saved with its caption, the run and the participant that it is of.
  for (const shown of all("figure img[data-name], figure object[data-name]")) {
    const figure = shown.closest("figure");
    const block = shown.closest(".reportlet");
    const words = (root, selector) => (root && root.querySelector(selector) ? root.querySelector(selector).textContent.trim() : "");
    const told = [document.title, shown.dataset.name, words(figure, "h3, h4") || shown.alt || shown.title,
      words(figure, "figcaption") || words(block, ":scope > .caption")];
    const save = make("button", { type: "button", className: "save", textContent: "Save figure" });
    save.setAttribute("aria-label", `Save figure: ${shown.alt || shown.title}`);
    save.addEventListener("click", () => saveFigure({
      address: shown.src || shown.data, size: [shown.naturalWidth, shown.naturalHeight], name: shown.dataset.name,
      caption: [...new Set(told.filter(Boolean))].map((text) => text.replace(/[.\s]*$/, ".")).join(" "),
    }));
    shown.after(save);
  }

  // A link into what is folded opens it; printing opens everything, and closes it again afterwards.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const block = target.closest("[data-of]");
    for (const [part, show] of tabs) if (block && part.contains(block)) show(block.dataset.of);
    let within = target.querySelector(":scope > details.fold") || target.closest("details");
    const closed = within && !within.open;
    for (; within; within = within.parentElement.closest("details")) within.open = true;
    if (closed) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    if (event.target.closest && event.target.closest('a[href^="#"]')) setTimeout(reveal, 0);
  });
  reveal();
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = all("details:not([open])");
    for (const each of opened) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of opened) each.open = false; });
  for (const button of all("[data-copy]")) {
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(button.parentElement.querySelector("p"));
      document.execCommand("copy");
      button.textContent = "Copied";
    });
  }
  const actions = {
    print: () => print(),
    unfold: (button) => {
      const open = button.textContent === "Expand all";
      for (const each of all("details.fold")) each.open = open;
      button.textContent = open ? "Collapse all" : "Expand all";
    },
  };
  for (const button of all("[data-do]")) button.addEventListener("click", () => actions[button.dataset.do](button));
})();
