/** The status page: one document, its style and its script (page-script.ts), each served as a file of its own. */
export const PAGE_HTML = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dmlog</title>
<link rel="stylesheet" href="page.css">
<link rel="icon" href="data:,">
<script src="page.js" defer></script>
</head>
<body>
<header><h1>dmlog</h1><p id="daemon" role="status">connecting…</p></header>
<main>
<section aria-labelledby="logs-title">
<h2 id="logs-title">Logs</h2>
<div class="scroll"><table id="logs"><thead></thead><tbody></tbody></table></div>
</section>
<section aria-labelledby="map-title">
<h2 id="map-title">Regions</h2>
<p id="range" aria-live="polite"></p>
<canvas id="map" tabindex="0" role="img" aria-label="Map of the regions"></canvas>
<p id="cell"></p>
<p class="legend"><span class="clean"></span>clean <span class="dirty"></span>dirty <span class="stale"></span>out of sync <span class="work"></span>recovering</p>
<p class="keys"><kbd>↑</kbd> <kbd>↓</kbd> log · <kbd>+</kbd> <kbd>−</kbd> zoom · <kbd>←</kbd> <kbd>→</kbd> move · <kbd>0</kbd> all · click a cell to zoom in</p>
</section>
<section id="cluster" aria-labelledby="cluster-title" hidden>
<h2 id="cluster-title">Cluster</h2>
<p id="place"></p>
<div class="scroll"><table id="members"><thead></thead><tbody></tbody></table></div>
</section>
<section aria-labelledby="requests-title">
<h2 id="requests-title">Requests</h2>
<div class="scroll"><table id="requests"><thead></thead><tbody></tbody></table></div>
</section>
<section aria-labelledby="events-title">
<h2 id="events-title">Events</h2>
<ol id="events" reversed></ol>
</section>
</main>
</body>
</html>
`;

export const PAGE_CSS = `:root {
  color-scheme: light dark;
  --back: #fbfbfa; --ink: #1c1e21; --faint: #5d646c; --line: #d9dcdf; --chosen: #e3eefb; --focus: #1a66c2;
  --clean: #3d8b4d; --dirty: #e0a100; --stale: #c0392b; --work: #1a66c2; --empty: #eceeef;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #15181b; --ink: #e6e8ea; --faint: #9aa3ab; --line: #33393f; --chosen: #1d3146; --focus: #6db3ff;
    --clean: #4f9e60; --dirty: #f0b429; --stale: #ef6a5b; --work: #6db3ff; --empty: #23282d;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline; border-bottom: 1px solid var(--line); }
h1 { font-size: 1.3rem; margin: 0 0 .4rem; }
h2 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .3rem 0; }
header p, .keys, #cell, #range, .legend { color: var(--faint); }
#cell { min-height: 1.45em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--faint); }
td.number, th.number { text-align: right; }
tbody tr[aria-selected] { cursor: pointer; }
tbody tr[aria-selected="true"] { background: var(--chosen); }
.bad { color: var(--stale); font-weight: 600; }
canvas { display: block; width: 100%; height: 12rem; border: 1px solid var(--line); cursor: zoom-in; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 2px; }
.legend span { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .8em; }
.legend span:first-child { margin-left: 0; }
.clean { background: var(--clean); } .dirty { background: var(--dirty); } .stale { background: var(--stale); } .work { background: var(--work); }
kbd { border: 1px solid var(--line); border-radius: 3px; padding: 0 .3em; font: inherit; }
#events { margin: 0; padding-left: 2.2rem; max-height: 16rem; overflow-y: auto; }
#events b { font-weight: 600; }
`;
