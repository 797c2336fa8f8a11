export interface WelcomeFacts {
  url: string;
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

/** What a person reads after `npm start`: where everything is, and three lines to paste. */
export function welcome({ url, missing, ownerToken, board, database, model }: WelcomeFacts): string {
  const json = `-H 'Content-Type: application/json'`;
  const lines = [
    '',
    ...(missing.length === 0
      ? ['  Assistly is ready.']
      : [
          `  Assistly runs, but is not ready yet. Missing: ${missing.join(', ')}.`,
          '  It becomes ready by itself when they are there; migrations are run with: npm run db:migrate',
        ]),
    '',
    `  API            ${url}/v1`,
    `  Documentation  ${url}/docs`,
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
