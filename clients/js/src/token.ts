// What can be read of a token without its key. Nothing is believed: the server judges tokens.

interface Claims {
  exp?: number;
  iat?: number;
  [claim: string]: unknown;
}

function claims(token: string): Claims | undefined {
  try {
    const part = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (c) => c.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Claims;
  } catch {
    return undefined; // an API key, say
  }
}

/**
 * Who a token is for: equal for the tokens that one user gets one after the other. Tabs whose
 * tokens differ in anything else share nothing, so that after a change of user no tab is shown
 * another user's events.
 */
export function identity(token: string | undefined): string {
  const c = token && claims(token);
  if (!c) return token ?? "";
  const { exp, iat, nbf, jti, ...who } = c;
  return JSON.stringify(who);
}

/**
 * How many milliseconds a token just received is good for; undefined if it does not say. From
 * iat to exp where both are there: the clock of the device may be wrong.
 */
export function lifetime(token: string): number | undefined {
  const c = claims(token);
  if (!c?.exp) return undefined;
  const ms = c.exp * 1000 - (c.iat ? c.iat * 1000 : Date.now());
  return ms > 0 ? ms : undefined;
}
