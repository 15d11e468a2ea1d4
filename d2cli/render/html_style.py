"""The style sheet of HTML reports: light and dark, narrow and wide."""

# Blue and orange are told apart with every kind of colour blindness; text is at least 4.5 : 1 on
# its ground, marks at least 3 : 1.
STYLE = """
:root { --ground: #ffffff; --panel: #f5f6f8; --ink: #1b2027; --quiet: #56606e; --edge: #d5dae1;
  --kept: #0b63a8; --dropped: #b8560f; --all: #848d9a; --warn: #fdf1e3; color-scheme: light dark }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --panel: #1e232a; --ink: #e6e9ee;
  --quiet: #a4adba; --edge: #39414c; --kept: #6db6f2; --dropped: #ee9d57; --all: #7f8997;
  --warn: #37291a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100% }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem clamp(0.9rem, 3vw, 2rem) 3rem }
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; margin: 0.3rem 0 1rem }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.5rem; padding-top: 0.7rem;
  border-top: 1px solid var(--edge) }
p, figcaption, .facts { max-width: 46rem; margin: 0.4rem 0 0.8rem }
small, figcaption, caption { color: var(--quiet); font-size: 0.875rem }
bdi { overflow-wrap: break-word } .text, .text bdi, p bdi, li bdi { overflow-wrap: anywhere }
.k { color: var(--kept) } .o { color: var(--dropped) }
.tiles { display: grid; gap: 0.75rem; padding: 0; margin: 0 0 1rem; list-style: none;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr)) }
.tiles li { background: var(--panel); border-radius: 0.5rem; padding: 0.8rem 1rem;
  line-height: 1.35 }
.tiles strong { display: block; font-size: 1.6rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums }
.tiles small { display: block }
.facts { padding-left: 1.2rem; color: var(--quiet) }
.warning { background: var(--warn); border-left: 4px solid var(--dropped);
  padding: 0.6rem 0.9rem; border-radius: 0 0.4rem 0.4rem 0 }
.pair { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)) }
figure { margin: 0.5rem 0 }
figure svg { display: block; width: 100%; height: auto }
.scroll { overflow-x: auto; margin: 0.5rem 0 1rem }
table { border-collapse: collapse; font-size: 0.9375rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding: 0 0 0.3rem }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 1rem 0.35rem 0;
  border-bottom: 1px solid var(--edge) }
th { font-weight: 500 }
thead th { color: var(--quiet); font-size: 0.875rem; vertical-align: bottom }
td:has(.text), th:has(.text) { min-width: 12rem; max-width: 26rem }
.n { text-align: right; white-space: nowrap }
.in { display: block; padding-left: 1.2rem }
.wide { white-space: nowrap }
td svg { display: block; width: 150px; height: 16px; margin-top: 0.2rem }
td img, th img { max-width: 72px; max-height: 72px; border-radius: 0.25rem }
svg text { font-size: 12px; fill: var(--quiet) }
svg .note { fill: var(--ink) }
.all { fill: var(--all) } .kept { fill: var(--kept) }
.edged { stroke: var(--ground); stroke-width: 0.6 }
.dot { fill: none; stroke-linecap: round; stroke-width: 5 } .dropped { stroke: var(--dropped) }
.broad .dot { stroke-width: 4; stroke-opacity: 0.8 }
.axis { stroke: var(--quiet); stroke-width: 1 } .grid { stroke: var(--edge); stroke-width: 1 }
.line { fill: none; stroke: var(--kept); stroke-width: 2; stroke-linejoin: round }
.turn { stroke: var(--dropped); stroke-width: 1.5; stroke-dasharray: 4 3 }
.median { stroke: var(--ink); stroke-width: 2 } .ground { fill: var(--panel) }
code, pre { font: 0.8125rem/1.45 ui-monospace, "SFMono-Regular", Menlo, Consolas, monospace }
code { overflow-wrap: anywhere }
pre { background: var(--panel); padding: 0.8rem 1rem; border-radius: 0.4rem; overflow-x: auto }
summary { cursor: pointer; margin: 0.4rem 0 }
.broad figure { max-width: 50rem }
@media (max-width: 40rem) { .broad svg text { font-size: 16px }
  td:has(.text), th:has(.text) { min-width: 9rem } th, td { padding-right: 0.7rem }
  tbody th { min-width: 8.5rem } td svg { width: 84px } }
@media print { details { display: none } section { break-inside: avoid } }
"""
