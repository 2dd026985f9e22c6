// Maps to scroll through: three planes with one crosshair, drawn voxel by voxel on the grid that each map has.
(() => {
  const PLANES = [[0, 1, 2], [0, 2, 1], [1, 2, 0]]; // axes to the right and up, and the axis that is cut: axial, coronal, sagittal
  const LETTERS = [["L", "R"], ["L", "R"], ["P", "A"]];
  const BLINK_MS = 800;
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // A volume of a .nii.gz as int8: size, voxel to mm, scale; what is embedded was written by us, in RAS order.
  const read = async (text) => {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const view = new DataView(await new Response(stream).arrayBuffer());
    const size = [0, 1, 2].map((k) => view.getInt16(42 + 2 * k, true));
    const affine = [0, 1, 2].map((k) => [0, 1, 2, 3].map((j) => view.getFloat32(280 + 16 * k + 4 * j, true)));
    const data = new Int8Array(view.buffer, view.getFloat32(108, true), size[0] * size[1] * size[2]);
    return { size, affine, data, slope: view.getFloat32(112, true), packed };
  };
  const voxel = (volume, at) => volume.size.map((n, k) => Math.min(n - 1, Math.max(0, Math.floor(at[k] * n))));
  const value = (volume, at) => {
    const [x, y, z] = voxel(volume, at);
    return volume.slope * volume.data[x + volume.size[0] * (y + volume.size[1] * z)];
  };
  const millimeters = (volume, at) => {
    const index = volume.size.map((n, k) => at[k] * n - 0.5);
    return volume.affine.map((row) => row[3] + row[0] * index[0] + row[1] * index[1] + row[2] * index[2]);
  };

  // One plane of a volume as a small canvas, a pixel a voxel; `paint` gives red, green, blue and opacity of a value.
  const sliced = (volume, [right, up, cut], at, paint) => {
    const [wide, high] = [volume.size[right], volume.size[up]];
    const steps = [1, volume.size[0], volume.size[0] * volume.size[1]];
    const start = steps[cut] * voxel(volume, at)[cut];
    const canvas = make("canvas", { width: wide, height: high });
    const pixels = new ImageData(wide, high);
    for (let j = 0, k = 0; j < high; j += 1) {
      for (let i = 0; i < wide; i += 1, k += 4) {
        pixels.data.set(paint(volume.data[start + steps[right] * i + steps[up] * (high - 1 - j)]), k);
      }
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    return canvas;
  };
  const ramp = (colors) => {
    const parts = colors.map((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16)));
    return (share) => {
      const place = Math.min(1, Math.max(0, share)) * (parts.length - 1);
      const k = Math.min(parts.length - 2, Math.floor(place));
      return parts[k].map((v, c) => v + (place - k) * (parts[k + 1][c] - v));
    };
  };

  class Viewer {
    constructor(root) {
      this.root = root;
      this.given = JSON.parse(root.querySelector("script").textContent);
      this.cache = new Map();
      this.state = { ...this.given.first, threshold: this.given.threshold };
      this.before = this.given.series.includes("bspline") ? "bspline" : this.given.series[0];
      this.at = this.given.at;
      this.color = ramp(this.given.colors);
      this.controls();
    }

    async start() {
      this.below = await read(this.given.background);
      const size = this.below.affine[0].map((_, k) => Math.hypot(...this.below.affine.map((row) => row[k])));
      this.mm = this.below.size.map((n, k) => n * size[k]);
      new ResizeObserver(() => this.draw()).observe(this.canvas);
      await this.show({});
      this.root.dataset.ready = "yes";
    }

    key({ contrast, smoothing, series }) { return [contrast, smoothing, series].join("|"); }

    async volume(state) {
      const key = this.key(state);
      if (!this.cache.has(key) && this.given.maps[key]) this.cache.set(key, read(this.given.maps[key]));
      return this.cache.get(key);
    }

    async show(change) {
      const next = { ...this.state, ...change };
      if (next.series !== this.state.series) this.before = this.state.series;
      this.state = next;
      const map = await this.volume(next);
      if (this.state !== next) return; // another choice came in between
      this.map = map;
      this.draw();
    }

    // Where the planes lie in the canvas: left edge, width and height in pixels, and pixels a millimeter.
    layout() {
      const ratio = devicePixelRatio || 1;
      const gap = 6 * ratio;
      const wide = this.canvas.clientWidth * ratio;
      const seen = this.mm.map((v, k) => v * (this.given.box[k][1] - this.given.box[k][0]));
      const total = PLANES.reduce((sum, [right]) => sum + seen[right], 0);
      const tall = Math.max(...PLANES.map(([, up]) => seen[up]));
      const scale = Math.min((wide - 2 * gap) / total, (this.given.tallest * ratio) / tall);
      let left = 0; // what is shown of each axis is `box`, the brain with a margin
      const boxes = PLANES.map(([right, up]) => {
        const box = { left, top: (scale * (tall - seen[up])) / 2, wide: scale * seen[right], high: scale * seen[up] };
        left += box.wide + gap;
        return box;
      });
      for (const box of boxes) box.left += (wide - left + gap) / 2;
      return { boxes, ratio, wide, high: Math.round(scale * tall) };
    }

    draw() {
      if (!this.below || !this.canvas.clientWidth) return;
      const { boxes, ratio, wide, high } = this.layout();
      Object.assign(this.canvas, { width: Math.round(wide), height: high });
      this.canvas.style.height = `${high / ratio}px`;
      const context = this.canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.fillStyle = "#000";
      context.fillRect(0, 0, this.canvas.width, this.canvas.height);
      const { threshold, contrast, smoothing } = this.state;
      const limit = this.given.limits[`${contrast}|${smoothing}`];
      const gray = (v) => { const g = Math.max(0, 2 * v); return [g, g, g, 255]; };
      const slope = this.map ? this.map.slope : 1;
      const over = (v) => (Math.abs(v * slope) > threshold ? [...this.color(0.5 + (v * slope) / (2 * limit)), 242] : [0, 0, 0, 0]);
      PLANES.forEach((plane, number) => {
        const { left, top, wide: w, high: h } = boxes[number];
        const [[x0, x1], [y0, y1]] = [this.given.box[plane[0]], this.given.box[plane[1]]];
        const [full, tall] = [w / (x1 - x0), h / (y1 - y0)];
        context.save();
        context.beginPath();
        context.rect(left, top, w, h);
        context.clip();
        const layers = [[this.below, gray], ...(this.map ? [[this.map, over]] : [])];
        const corner = [left - x0 * full, top - (1 - y1) * tall, full, tall];
        for (const [volume, paint] of layers) context.drawImage(sliced(volume, plane, this.at, paint), ...corner);
        const [x, y] = [corner[0] + this.at[plane[0]] * full, corner[1] + (1 - this.at[plane[1]]) * tall];
        context.strokeStyle = "#35e0ff";
        context.lineWidth = ratio;
        context.beginPath();
        context.moveTo(left, y); context.lineTo(left + w, y);
        context.moveTo(x, top); context.lineTo(x, top + h);
        context.stroke();
        context.fillStyle = "#fff";
        context.font = `bold ${12 * ratio}px sans-serif`;
        context.fillText(LETTERS[number][0], left + 3 * ratio, top + h / 2);
        context.fillText(LETTERS[number][1], left + w - 13 * ratio, top + h / 2);
        context.restore();
      });
      this.tell();
    }

    tell() {
      const { series, contrast, smoothing, threshold } = this.state;
      const place = millimeters(this.below, this.at).map((v) => Math.round(v));
      const found = this.map ? value(this.map, this.at) : null;
      const least = this.given.least;
      const text = found === null ? "no map" : found === 0 ? `|${this.given.statistic}| < ${least}` : `${this.given.statistic} ${found.toFixed(this.given.digits)}`;
      const name = this.given.titles[series] || series;
      const smoothed = smoothing === "none" ? "not smoothed" : `smoothed by ${smoothing}`;
      this.readout.textContent = `${name}, ${contrast}, ${smoothed} · x ${place[0]}, y ${place[1]}, z ${place[2]} mm · ${text}`;
      Object.assign(this.root.dataset, { series, contrast, smoothing, threshold, at: place.join(",") });
      for (const [name, control] of Object.entries(this.inputs)) control.value = this.state[name];
      this.level.textContent = Number(threshold).toFixed(this.given.digits);
      for (const button of this.buttons) button.setAttribute("aria-pressed", button.value === series);
    }

    controls() {
      const { contrasts, smoothings, series, titles, statistic } = this.given;
      this.inputs = {};
      const choice = (name, values) => {
        const select = make("select", {}, ...values.map((text) => make("option", { value: text, textContent: text })));
        select.addEventListener("change", () => this.show({ [name]: select.value }));
        this.inputs[name] = select;
        return make("label", {}, `${name} `, select);
      };
      this.buttons = series.map((name) => {
        const button = make("button", { type: "button", value: name, textContent: titles[name] || name });
        button.addEventListener("click", () => this.show({ series: name }));
        return button;
      });
      const group = make("div", { role: "group", className: "series" }, ...this.buttons);
      group.setAttribute("aria-label", "series");
      const slider = make("input", { type: "range", min: this.given.least, max: this.given.most, step: this.given.step });
      slider.addEventListener("input", () => this.show({ threshold: Number(slider.value) }));
      this.inputs.threshold = slider;
      this.level = make("output");
      this.blink = make("button", { type: "button", textContent: "Blink", title: "Switch between the last two series (key b)" });
      this.blink.setAttribute("aria-pressed", "false");
      this.blink.addEventListener("click", () => this.blinking());
      const save = make("button", { type: "button", textContent: "Save this map" });
      save.addEventListener("click", () => this.save());
      const picture = make("button", { type: "button", textContent: "Save this view" });
      picture.addEventListener("click", () => this.saveView());
      this.canvas = make("canvas", { tabIndex: 0 });
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-label", "Axial, coronal and sagittal plane of the map. Arrow keys move the crosshair left, right, forward and back, page up and page down move it up and down, b switches to the series before.");
      this.readout = make("p", { className: "readout" });
      this.readout.setAttribute("aria-live", "polite");
      this.pointing();
      const bar = make("div", { className: "bar" }, choice("contrast", contrasts), choice("smoothing", smoothings),
        make("label", {}, `|${statistic}| > `, slider, this.level), this.blink, save, picture);
      this.root.append(bar, group, this.canvas, this.readout);
    }

    // The run that the maps are of, in words: what stands above them.
    run() {
      const heading = this.root.closest(".reportlet")?.querySelector("h3.run");
      return [document.title.replace("bids-sr: ", ""), heading?.textContent.trim()].filter(Boolean).join(", ");
    }

    fileName() {
      const { contrast, series, smoothing } = this.state;
      return [this.run().replace(/[, ]+/g, "-"), contrast, series, smoothing, this.given.statistic].join("_").replace(/ /g, "");
    }

    save() {
      if (this.map) download(this.map.packed, "application/gzip", `${this.fileName()}.nii.gz`);
    }

    saveView() {
      const shown = `shown where |${this.given.statistic}| > ${this.state.threshold}`;
      const caption = `bids-sr: ${this.run()}. ${this.readout.textContent}; ${shown}.`;
      saveFigure({
        address: this.canvas.toDataURL("image/png"), size: [this.canvas.width, this.canvas.height], caption,
        name: this.fileName(),
      });
    }

    blinking() {
      const on = this.blink.getAttribute("aria-pressed") !== "true";
      this.blink.setAttribute("aria-pressed", on);
      clearInterval(this.timer);
      if (on) this.timer = setInterval(() => this.show({ series: this.before }), BLINK_MS);
    }

    move(axis, step) {
      this.at = this.at.map((v, k) => (k === axis ? Math.min(0.999, Math.max(0, v + step / this.below.size[k])) : v));
      this.draw();
    }

    pointing() {
      const point = (event) => {
        const { boxes, ratio } = this.layout();
        const [x, y] = [event.offsetX * ratio, event.offsetY * ratio];
        const number = boxes.findIndex((b) => x >= b.left && x < b.left + b.wide && y >= b.top && y < b.top + b.high);
        if (number < 0) return;
        const [right, up] = PLANES[number];
        const within = (axis, share) => this.given.box[axis][0] + share * (this.given.box[axis][1] - this.given.box[axis][0]);
        this.at = [...this.at];
        this.at[right] = Math.min(0.999, within(right, (x - boxes[number].left) / boxes[number].wide));
        this.at[up] = Math.min(0.999, within(up, 1 - (y - boxes[number].top) / boxes[number].high));
        this.draw();
      };
      this.canvas.addEventListener("pointerdown", (event) => { this.canvas.setPointerCapture(event.pointerId); point(event); });
      this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) point(event); });
      const keys = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowDown: [1, -1], ArrowUp: [1, 1], PageDown: [2, -1], PageUp: [2, 1] };
      this.canvas.addEventListener("keydown", (event) => {
        if (event.key === "b") this.show({ series: this.before });
        else if (keys[event.key]) this.move(...keys[event.key]);
        else return;
        event.preventDefault();
      });
    }
  }

  // Where a browser cannot unpack the maps, the text for readers without scripts is shown instead.
  const begin = async (root) => {
    try {
      await new Viewer(root).start();
    } catch (error) {
      root.replaceChildren(make("p", { className: "failed", textContent: root.querySelector(".unscripted").textContent }));
    }
  };

  // A viewer is made when it is first seen: a page of many runs decodes only what is looked at.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      begin(target);
    }
  });
  for (const root of document.querySelectorAll("[data-viewer]")) seen.observe(root);
})();
