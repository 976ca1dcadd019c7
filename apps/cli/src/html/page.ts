/**
 * A report as one HTML file that opens offline: texts and plots. The plots are drawn by uPlot, which goes into the file.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

/** A curve, or bars. */
export interface PlotSeries {
  readonly label: string;
  readonly y: readonly number[];
  readonly bars?: boolean;
}

export type PageSection =
  /** A bar for each name, its length by its value: 0 or more. */
  | { readonly kind: 'bars'; readonly title: string; readonly unit: string; readonly names: readonly string[]; readonly values: readonly number[] }
  | { readonly kind: 'text'; readonly title: string; readonly text: string }
  | {
    readonly kind: 'plot'; readonly title: string; readonly xLabel: string; readonly yLabel: string;
    /** Ascending. */
    readonly x: readonly number[];
    readonly series: readonly PlotSeries[];
    /** The x axis is logarithmic, to base 2. */
    readonly logX?: boolean;
  };

const COLORS = ['#0b6e99', '#c4453c', '#3a8f3a', '#b07d00', '#7a4fb5', '#666666', '#c2528b', '#2aa198'];

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
.bars { display: grid; grid-template-columns: max-content 1fr; gap: .2rem .8rem; font-size: 13px; align-items: center; }
.bars i { display: inline-block; height: .8rem; background: #0b6e99; margin-right: .5rem; vertical-align: middle; }
pre { font: 12.5px/1.4 ui-monospace, monospace; overflow-x: auto; background: #f6f6f6; padding: .8rem; border-radius: 4px; }
`;

function escapeHtml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');
}

/** JSON that may stand in a script element. */
function scriptJson(value: unknown): string {
  return JSON.stringify(value).replace(/</g, '\\u003c').replace(/\u2028/g, '\\u2028').replace(/\u2029/g, '\\u2029');
}

/** What draws a plot from its section; runs in the page. */
const DRAW = `
for (const { id, section } of plots) {
  const place = document.getElementById(id);
  const number = new Intl.NumberFormat('en-US', { maximumFractionDigits: 2 });
  new uPlot({
    width: Math.min(920, place.clientWidth || 920), height: 320,
    scales: { x: { time: false, ...(section.logX ? { distr: 3, log: 2 } : {}) } },
    axes: [{ label: section.xLabel, values: (_, ticks) => ticks.map((tick) => tick === null ? '' : number.format(tick)) },
      { label: section.yLabel, size: 80, values: (_, ticks) => ticks.map((tick) => number.format(tick)) }],
    series: [{ label: section.xLabel }, ...section.series.map(({ label, bars }, at) => ({
      label, stroke: colors[at % colors.length], width: 1.5, points: { show: section.x.length < 40 },
      ...(bars ? { fill: colors[at % colors.length] + '55', paths: uPlot.paths.bars({ size: [0.8] }), points: { show: false } } : {}),
    }))],
  }, [section.x, ...section.series.map(({ y }) => y)], place);
}
`;

function bars({ names, values, unit }: Extract<PageSection, { kind: 'bars' }>): string {
  const most = Math.max(...values, Number.MIN_VALUE);
  const rows = values.map((value, at) => (
    `<span>${escapeHtml(names[at]!)}</span><span><i style="width:${((value / most) * 75).toFixed(2)}%"></i>${value.toFixed(2)} ${escapeHtml(unit)}</span>`
  ));
  return `<div class="bars">${rows.join('\n')}</div>`;
}

/** The page's text. */
export function htmlPage(title: string, sections: readonly PageSection[]): string {
  const require = createRequire(import.meta.url);
  const uplot = readFileSync(require.resolve('uplot/dist/uPlot.iife.min.js'), 'utf8');
  const uplotStyle = readFileSync(require.resolve('uplot/dist/uPlot.min.css'), 'utf8');
  const plots: { id: string; section: PageSection }[] = [];
  const body = sections.map((section, at) => {
    const heading = `<h2>${escapeHtml(section.title)}</h2>`;
    if (section.kind === 'text') return `${heading}\n<pre>${escapeHtml(section.text)}</pre>`;
    if (section.kind === 'bars') return `${heading}\n${bars(section)}`;
    plots.push({ id: `plot-${at}`, section });
    return `${heading}\n<div id="plot-${at}"></div>`;
  });
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${uplotStyle}${STYLE}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
${body.join('\n')}
<script>${uplot.replace(/<\/script/g, '<\\/script')}</script>
<script>
const colors = ${scriptJson(COLORS)};
const plots = ${scriptJson(plots)};
${DRAW}</script>
</body>
</html>
`;
}
