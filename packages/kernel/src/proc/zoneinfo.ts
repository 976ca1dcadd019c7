import { WMARK_HIGH, WMARK_LOW, WMARK_MIN, WMARK_PROMO, ZONE_STAT, calculateNormalThreshold } from '@pagelab/mm-core';
import type { MemoryNode, Zone } from '@pagelab/mm-core';
import type { Kernel } from '../kernel.ts';
import { nodeStatShown, nodeStats, zoneStats } from './stat-names.ts';

const INDENT = '      ';

/** `/proc/zoneinfo`. @linux mm/vmstat.c:zoneinfo_show */
export function zoneinfo(kernel: Kernel): string {
  let text = '';
  for (const node of kernel.pages.nodes) {
    let first = true;
    for (const zone of node.zones) {
      text += `Node ${node.nid}, zone ${zone.name.padStart(8)}\n`;
      if (zone.present > 0 && first) {
        text += perNode(kernel, node);
        first = false;
      }
      text += perZone(kernel, zone);
    }
  }
  return text;
}

function perNode(kernel: Kernel, node: MemoryNode): string {
  let text = '  per-node stats\n';
  for (const { name, item } of nodeStats(kernel.config.kernel, kernel.config.arch)) {
    text += `${INDENT}${name.padEnd(12)} ${item < 0 ? 0 : nodeStatShown(item, node.vmStat[item]!)}\n`;
  }
  return text;
}

function perZone(kernel: Kernel, zone: Zone): string {
  const old = kernel.config.kernel === '6.1';
  let text =
    `  pages free     ${zone.state(ZONE_STAT.NR_FREE_PAGES)}\n` +
    `        boost    ${zone.watermarkBoost}\n` +
    `        min      ${zone.wmarkPages(WMARK_MIN)}\n` +
    `        low      ${zone.wmarkPages(WMARK_LOW)}\n` +
    `        high     ${zone.wmarkPages(WMARK_HIGH)}\n` +
    (old ? '' : `        promo    ${zone.wmarkPages(WMARK_PROMO)}\n`) +
    `        spanned  ${zone.spanned}\n` +
    `        present  ${zone.present}\n` +
    `        managed  ${zone.managed}\n` +
    `        cma      ${zone.cmaPages}\n` +
    `        protection: (${[...zone.lowmemReserve].join(', ')})\n`;
  if (zone.present === 0) return text;
  for (const { name, item } of zoneStats(kernel.config.kernel, kernel.config.arch)) {
    text += `${INDENT}${name.padEnd(12)} ${item < 0 ? 0 : zone.state(item)}\n`;
  }
  text += '  pagesets\n';
  const threshold = calculateNormalThreshold(kernel.smp.cpus.length, zone.managed);
  zone.pcp.forEach((pcp, cpu) => {
    const wide = kernel.config.kernel === '6.18';
    const field = (name: string, value: number, width: number): string => `${`              ${name}:`.padEnd(width)}${value}\n`;
    text += `    cpu: ${cpu}\n`;
    if (wide) {
      text += field('count', pcp.count, 24) + field('high', pcp.high, 24) + field('batch', pcp.batch, 24);
      text += field('high_min', pcp.highMin, 24) + field('high_max', pcp.highMax, 24);
    } else {
      text += field('count', pcp.count, 21) + field('high', pcp.high, 21) + field('batch', pcp.batch, 21);
    }
    text += `  vm stats threshold: ${threshold}\n`;
  });
  return `${text}  node_unreclaimable:  0\n  start_pfn:           ${zone.startPfn}\n`;
}
