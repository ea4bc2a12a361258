"""Colours, style sheet and script of the page; all of it goes into the one file."""

from __future__ import annotations

#: Of middling lightness, so that they stand out from white and from black; the first is for no curriculum.
COLORS = ("#7a828c", "#2f7ed8", "#d9661f", "#1e9e6a", "#9b5de5", "#d6455d", "#1799a8", "#a0703c")

CSS = """
:root { color-scheme: light dark; --text: #1b1f24; --quiet: #555e69; --line: #d5dae0; --back: #ffffff; --soft: #f4f6f8;
  --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ed; --quiet: #a5aeb9; --line: #3a414a; --back: #14171b;
  --soft: #1d2127; --link: #7db7f2; } }
* { box-sizing: border-box; }
body { margin: 0; color: var(--text); background: var(--back); font: 1rem/1.55 system-ui, sans-serif; }
main, header { max-width: 76rem; margin: 0 auto; padding: 0 1rem; overflow-wrap: break-word; }
main { padding-bottom: 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 1.5rem 0 .5rem; }
h4 { font-size: 1rem; margin: 1rem 0 .25rem; }
p, li { max-width: 48rem; }
li { margin: .3rem 0; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; margin: .5rem 0; padding: 0; }
nav li { margin: 0; }
nav a { display: inline-block; padding: .2rem 0; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--back); padding: .25rem .5rem; }
.box { overflow-x: auto; margin: 1rem 0 1.5rem; border: 1px solid var(--line); border-radius: 6px; }
.caption { font-weight: 600; margin: 1.25rem 0 -.5rem; max-width: none; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; vertical-align: top; white-space: nowrap; }
thead th { vertical-align: bottom; background: var(--soft); border-bottom: 1px solid var(--line); white-space: normal;
  min-width: 4.5rem; }
th.text, td.text { text-align: left; }
tbody th { font-weight: 400; }
tbody tr:hover td { background: var(--soft); }
th:first-child { position: sticky; left: 0; background: var(--back); }
thead th:first-child { background: var(--soft); }
th.group { text-align: left; font-weight: 600; border-top: 1px solid var(--line); padding-top: .6rem; }
th.group span { position: sticky; left: .7rem; }
figure { margin: 1rem 0 1.5rem; }
figcaption { color: var(--quiet); font-size: .9rem; max-width: 48rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: .5rem 1rem; }
.panels > * { min-width: 0; }
.title { font-weight: 600; font-size: .92rem; margin: .5rem 0 0; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem .5rem; margin: .5rem 0; padding: 0; }
.legend button { display: inline-flex; align-items: center; gap: .4rem; font: inherit; font-size: .88rem;
  color: inherit; background: none; border: 1px solid var(--line); border-radius: 4px;
  padding: .2rem .5rem; cursor: pointer; }
.legend button[aria-pressed=false] { opacity: .45; text-decoration: line-through; }
.legend svg { flex: none; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
details { border-top: 1px solid var(--line); padding: .25rem 0; }
summary { cursor: pointer; padding: .35rem 0; }
summary h3 { display: inline; }
@media (max-width: 40rem) { th, td { padding: .35rem .45rem; } thead th { min-width: 3.5rem; }
  tbody th:first-child { white-space: normal; min-width: 6.5rem; } ul { padding-left: 1.4rem; } }
@media print { .legend button[aria-pressed=false] { display: none; } .box { overflow: visible; } }
"""

# Charts are drawn when they come into view, and again when the reader's colours change.
SCRIPT = """
const panels = JSON.parse(document.getElementById('panels').textContent);
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const options = { displayModeBar: false, responsive: true, showTips: false };
function colored(layout) {
  const axis = { gridcolor: color('--line'), zerolinecolor: color('--line'), linecolor: color('--line') };
  const shapes = (layout.shapes || []).map(shape => ({ ...shape, line: { ...shape.line, color: color('--quiet') } }));
  return { ...layout, shapes, font: { ...layout.font, color: color('--text') },
    xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis },
    hoverlabel: { bgcolor: color('--soft'), bordercolor: color('--line'), font: { color: color('--text') } } };
}
function draw(box) {
  const panel = panels[box.dataset.panel];
  const hollow = color('--back');
  const data = panel.data.map(trace => trace.marker && trace.marker.color.map ? { ...trace,
    marker: { ...trace.marker, color: trace.marker.color.map(c => c || hollow) } } : trace);
  const hidden = new Set([...box.closest('figure').querySelectorAll('button[aria-pressed=false]')].map(b => b.value));
  Plotly.react(box, data.map(t => ({ ...t, visible: !hidden.has(t.name) })), colored(panel.layout), options);
  box.drawn = true;
}
const boxes = [...document.querySelectorAll('[data-panel]')];
const watch = new IntersectionObserver(seen => seen.forEach(entry => {
  if (entry.isIntersecting) { watch.unobserve(entry.target); draw(entry.target); }
}), { rootMargin: '300px' });
boxes.forEach(box => watch.observe(box));
const redraw = of => of.filter(box => box.drawn).forEach(draw);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => redraw(boxes));
addEventListener('beforeprint', () => boxes.forEach(box => box.offsetParent && draw(box)));
document.addEventListener('toggle', event => event.target.open &&
  redraw([...event.target.querySelectorAll('[data-panel]')]), true);
document.querySelectorAll('.legend button').forEach(button => button.addEventListener('click', () => {
  button.setAttribute('aria-pressed', button.getAttribute('aria-pressed') === 'false');
  redraw([...button.closest('figure').querySelectorAll('[data-panel]')]);
}));
"""
