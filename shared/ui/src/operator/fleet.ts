// How the fleet is shown: which tenants come first, which a filter keeps, what the numbers at the top are. Pure.

import type { Class, Fleet, Tenant } from "../core/wire.ts";

/** Greater needs a person sooner. */
export function urgency(tenant: Tenant): number {
  if (tenant.state === "needs_operator") return 6;
  if (tenant.findings.some((finding) => finding.severity === "fail")) return 5;
  if (tenant.state === "ready" && (tenant.gateway.state === "ungated" || tenant.gateway.state === "down")) return 5;
  if (tenant.state === "ready" && tenant.presence === "offline") return 4;
  if (tenant.findings.length > 0) return 3;
  if (tenant.presence === "never" || (tenant.state === "ready" && tenant.presence === "late")) return 2;
  return tenant.state === "provisioning" ? 1 : 0;
}

export function needsAttention(tenant: Tenant): boolean {
  return urgency(tenant) >= 2;
}

/** Those that need attention first, then by name, so that a quiet list never moves. */
export function ordered(tenants: readonly Tenant[]): Tenant[] {
  return [...tenants].sort((a, b) => urgency(b) - urgency(a) || a.name.localeCompare(b.name) || a.id.localeCompare(b.id));
}

/** `words` are what a person can read about the tenant in the language of the page. */
export function matches(words: readonly string[], query: string): boolean {
  const text = words.join(" ").toLowerCase();
  return query.toLowerCase().split(/\s+/).every((part) => text.includes(part));
}

export interface Totals {
  tenants: number;
  attention: number;
  online: number;
  approvals: number;
  calls: number;
}

export function totals(fleet: Fleet): Totals {
  const { tenants } = fleet;
  return {
    tenants: tenants.length,
    attention: tenants.filter(needsAttention).length,
    online: tenants.filter((tenant) => tenant.presence === "online").length,
    approvals: tenants.reduce((sum, tenant) => sum + tenant.approvals.length, 0),
    calls: tenants.reduce((sum, tenant) => sum + tenant.usage_today.calls, 0),
  };
}

const weight: Record<Class, number> = { critical_red: 3, red: 2, yellow: 1, green: 0 };

export function gravest(approvals: Tenant["approvals"]): Tenant["approvals"] {
  return [...approvals].sort((a, b) => weight[b.class] - weight[a.class] || a.created_ms - b.created_ms);
}
