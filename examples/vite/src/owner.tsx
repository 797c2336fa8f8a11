import { client, createChatbot, listChatbots, type ChatbotSummary } from 'assistly-client/api';
import { useEffect, useState, type ReactNode } from 'react';

interface Props {
  baseUrl: string;
  getToken: () => Promise<string | null>;
  aside?: ReactNode;
}

/** The owner's side: its chatbots, and a form for another. */
export function Owner({ baseUrl, getToken, aside }: Props) {
  const [chatbots, setChatbots] = useState<ChatbotSummary[]>();
  const [nextCursor, setNextCursor] = useState<string | null>(null);
  const [problem, setProblem] = useState<string>();

  async function load(cursor?: string) {
    client.setConfig({ baseUrl, auth: async () => (await getToken()) ?? undefined });
    const { data, error } = await listChatbots({ query: { cursor } });
    setProblem(data ? undefined : inWords(error));
    if (!data) return;
    setChatbots((shown = []) => (cursor ? [...shown, ...data.data] : data.data));
    setNextCursor(data.nextCursor);
  }

  async function create(form: FormData) {
    const lines = String(form.get('characteristics')).split('\n');
    const { data, error } = await createChatbot({
      // Made anew for each press of the button: a request that is sent again with it makes no second chatbot.
      headers: { 'Idempotency-Key': crypto.randomUUID() },
      body: {
        name: String(form.get('name')),
        greeting: String(form.get('greeting')),
        characteristics: lines.filter((line) => line.trim() !== ''),
      },
    });
    setProblem(data ? undefined : inWords(error));
    if (data) await load();
  }

  useEffect(() => {
    void load();
  }, []);

  return (
    <main className="owner">
      <header>
        <h1>Your chatbots</h1>
        {aside}
      </header>
      {problem && <p className="problem">{problem}</p>}
      <ul>
        {chatbots?.map(({ id, name, greeting }) => (
          <li key={id} className="card">
            <strong>{name}</strong>
            <span>{greeting}</span>
            <a href={`?chatbot=${id}`}>Chat</a>
          </li>
        ))}
      </ul>
      {chatbots?.length === 0 && <p>None yet.</p>}
      {nextCursor && <button onClick={() => void load(nextCursor)}>More</button>}
      <form className="card" action={create}>
        <h2>Another one</h2>
        <label>
          Name
          <input name="name" defaultValue="Bakery" maxLength={255} required />
        </label>
        <label>
          Greeting
          <input name="greeting" defaultValue="Hello! What would you like to know?" maxLength={2000} />
        </label>
        <label>
          What it knows, a sentence a line
          <textarea
            name="characteristics"
            rows={3}
            defaultValue={
              'We are open from 7 to 18, Monday to Saturday.\nOur rye bread is baked with sourdough only.'
            }
          />
        </label>
        <button>Create</button>
      </form>
    </main>
  );
}

/** A problem document, or what `fetch` has thrown where there was no answer. */
function inWords(error: unknown): string {
  if (error instanceof Error)
    return 'No answer: is the API running, and does its CORS_ORIGINS name this page?';
  return (error as { detail?: string }).detail ?? 'Something went wrong.';
}
