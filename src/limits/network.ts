import ipaddr from 'ipaddr.js';

/** Of an IPv6 address: what one customer has, and what one may get who asks for more. */
const CUSTOMER_BITS = 64;
const SITE_BITS = 48;

/**
 * The networks that an address is counted by, the narrowest first: of IPv4 itself, written as IPv6 or not; of IPv6 the /64,
 * since a single client has all of it, and the /48.
 *
 * @param address as Express gives it, behind `TRUST_PROXY`
 */
export function networksOf(address: string | undefined): string[] {
  if (address === undefined || !ipaddr.isValid(address)) return ['unknown'];
  const parsed = ipaddr.process(address);
  if (parsed.kind() === 'ipv4') return [parsed.toString()];
  return [CUSTOMER_BITS, SITE_BITS].map(
    (bits) => `${ipaddr.IPv6.networkAddressFromCIDR(`${address.split('%')[0]}/${bits}`).toString()}/${bits}`,
  );
}
