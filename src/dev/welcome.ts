export interface WelcomeFacts {
  url: string;
  /** Whether who reads it can click on a text that leads to a longer address. */
  isTerminal: boolean;
  /** The page of the demo's chatbot; null where there is none. */
  chat: string | null;
  /** Names of the parts that are not there yet. */
  missing: readonly string[];
  /** Null where Clerk is configured. */
  ownerToken: string | null;
  board: { url: string; user: string; password: string } | null;
  database: string;
  model: string;
}

/** The first `"<name>":"<value>"` of a JSON answer, with what every machine has. */
const pick = (name: string): string => `grep -o '"${name}":"[^"]*"' | head -1 | cut -d'"' -f4`;

/** A text that leads elsewhere, where the terminal knows that (OSC 8); the others show the text. */
const link = (address: string, text: string): string =>
  `\u001b]8;;${address}\u001b\\${text}\u001b]8;;\u001b\\`;

/** What a person reads after `npm start`: where everything is, and three lines to paste. */
export function welcome({
  url,
  isTerminal,
  chat,
  missing,
  ownerToken,
  board,
  database,
  model,
}: WelcomeFacts): string {
  const json = `-H 'Content-Type: application/json'`;
  const docs = `${url}/docs`;
  // The page takes the token out of the fragment, which no server is sent: so the first step there is done.
  const docsLink = isTerminal && ownerToken !== null ? link(`${docs}#owner-token=${ownerToken}`, docs) : docs;
  const lines = [
    '',
    ...(missing.length === 0
      ? ['  Assistly is ready.']
      : [
          `  Assistly runs, but is not ready yet. Missing: ${missing.join(', ')}.`,
          '  It becomes ready by itself when they are there; migrations are run with: npm run db:migrate',
        ]),
    '',
    ...(chat === null ? [] : [`  Chat           ${chat}`]),
    `  API            ${url}/v1`,
    `  Documentation  ${docsLink}`,
    ...(board ? [`  Queue board    ${board.url}   (${board.user} / ${board.password})`] : []),
    `  Database       ${database}`,
    `  Model          ${model}`,
    '',
  ];
  if (ownerToken !== null) {
    lines.push(
      '  An owner token to try it with (more: npm run -s token -- <clerk user id>):',
      '',
      ownerToken,
      '',
      '  Create a chatbot, open a session, stream a reply. Paste these three lines:',
      '',
      `BOT=$(curl -s ${url}/v1/chatbots -H 'Authorization: Bearer ${ownerToken}' ${json} -d '{"name":"Bakery","greeting":"Hello {name}!","characteristics":["We are open from 7 to 18, Monday to Saturday.","Our rye bread is baked with sourdough only."]}' | ${pick('id')}); echo "chatbot $BOT"`,
      `OPENED=$(curl -s ${url}/v1/chatbots/$BOT/sessions ${json} -d '{"guest":{"name":"Ada"}}'); SESSION=$(echo "$OPENED" | ${pick('id')}); GUEST=$(echo "$OPENED" | ${pick('token')}); echo "session $SESSION"`,
      `CURSOR=$(curl -s -D - -o /dev/null ${url}/v1/sessions/$SESSION/messages -H "Authorization: Bearer $GUEST" ${json} -d '{"content":"When are you open?"}' | tr -d '\\r' | awk 'tolower($1)=="x-event-cursor:"{print $2}'); curl -sN -m 8 "${url}/v1/sessions/$SESSION/events?after=$CURSOR" -H "Authorization: Bearer $GUEST"`,
      '',
    );
  }
  lines.push('  Stop with Ctrl-C.', '');
  return `${lines.join('\n')}\n`;
}
