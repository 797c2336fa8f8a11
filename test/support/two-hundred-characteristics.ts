/**
 * What a town's leisure office has to say of ten places: two hundred characteristics that share their vocabulary, since
 * twenty sentences are said of each place, and each differs from its like by the place and by the thing it is about.
 */
const THINGS: Record<string, string[]> = {
  'the bicycle station':
    'helmet pannier saddle tandem lock pump trailer basket bell brake chain pedal tyre spoke repair map lantern handlebar puncture tricycle'.split(
      ' ',
    ),
  'the boat house':
    'paddle canoe lifejacket anchor raft oar dinghy sail rudder mooring wetsuit kayak fishing buoy rope hull pier regatta swimming current'.split(
      ' ',
    ),
  'the climbing hall':
    'harness boulder chalk carabiner belaying rope-bag ledge overhang instructor wall grip mattress knot summit ladder championship bruise ceiling beginner gloves'.split(
      ' ',
    ),
  'the pottery':
    'kiln glaze clay wheel vase apron teapot firing sculpture mould brush bowl porcelain tile shard oven stamp pigment engraving plate'.split(
      ' ',
    ),
  'the museum':
    'audioguide cloakroom portrait dinosaur telescope mummy fossil meteorite archive restoration painting library lecture catalogue donation planetarium skeleton photograph tour auction'.split(
      ' ',
    ),
  'the camping ground':
    'tent caravan hammock campfire firewood shower laundry barbecue playground generator sleeping-bag lamp cabin mosquito cooler stove awning quarry hedgehog badminton'.split(
      ' ',
    ),
  'the sauna':
    'towel bathrobe massage steam sandals plunge aroma whirlpool solarium locker infusion peeling herbs relaxation thermometer bench birch eucalyptus pregnancy nap'.split(
      ' ',
    ),
  'the ice rink':
    'skate hockey curling blade disco sharpening figure puck mitten referee elbow resurfacing training penguin scarf stands carnival polishing choir zamboni'.split(
      ' ',
    ),
  'the cooking school':
    'knife dough vegetarian allergy recipe wine sushi dessert pasta certificate spice market chocolate tasting steak mushroom bakery apprentice gluten leftovers'.split(
      ' ',
    ),
  'the ferry':
    'luggage lorry sunset captain island deck seagull crossing timetable cabin-key storm binoculars motorcycle seasickness gangway harbour departure customs duty-free whistle'.split(
      ' ',
    ),
};

const SENTENCES: ((place: string, thing: string, n: number) => string)[] = [
  (place, thing, n) =>
    `At ${place} we charge ${n} euros for the ${thing}, and children pay half of the price.`,
  (place, thing, n) =>
    `Whoever comes to ${place} has to book the ${thing} ${n} days before, online or at the desk.`,
  (place, thing, n) => `The ${thing} at ${place} is closed on every Monday until ${n} o'clock.`,
  (place, thing, n) =>
    `At ${place} a deposit of ${n} euros is due for the ${thing}; guests get it back at the desk.`,
  (place, thing, n) =>
    `Groups of more than ${n} guests ask the office of ${place} about the ${thing} in advance.`,
  (place, thing, n) => `Guests under ${n} years use the ${thing} of ${place} with their parents only.`,
  (place, thing, n) => `When it rains at ${place}, the ${thing} is free of charge for ${n} minutes.`,
  (place, thing, n) => `Our staff at ${place} explains the ${thing} in ${n} languages before guests begin.`,
  (place, thing, n) =>
    `Dogs stay outside of ${place} because of the ${thing}, but for the first ${n} days of May.`,
  (place, thing, n) => `For the ${thing}, guests at ${place} pay by card only, up to ${n} euros.`,
  (place, thing, n) =>
    `Whoever is late at ${place} loses the ${thing} after ${n} minutes and pays all the same.`,
  (place, thing, n) => `The ${thing} at ${place} can be reached with a wheelchair by lift number ${n}.`,
  (place, thing, n) =>
    `Vouchers for the ${thing} of ${place} are valid for ${n} months and cannot be exchanged.`,
  (place, thing, n) =>
    `In winter ${place} offers the ${thing} from ${n} o'clock on, as long as there is light.`,
  (place, thing, n) => `Members of ${place} get the ${thing} for ${n} percent less than other guests.`,
  (place, thing, n) => `What was damaged of the ${thing} at ${place} is paid by the guest, up to ${n} euros.`,
  (place, thing, n) =>
    `Parking in front of ${place} is allowed for ${n} hours for those who come for the ${thing}.`,
  (place, thing, n) => `The association of ${place} meets about the ${thing} on day ${n} of each month.`,
  (place, thing, n) => `Food and drinks are not allowed near the ${thing} of ${place}, within ${n} metres.`,
  (place, thing, n) =>
    `Complaints about the ${thing} of ${place} are answered by the office within ${n} days.`,
];

export const TWO_HUNDRED: readonly string[] = Object.entries(THINGS).flatMap(([place, things], p) =>
  things.map((thing, t) => SENTENCES[t]!(place, thing, 3 + p * 7 + t)),
);

/** The characteristic about a thing. */
export const about = (thing: string): string => {
  const found = TWO_HUNDRED.filter((text) => new RegExp(`\\b${thing}\\b(?!-)`).test(text));
  if (found.length !== 1) throw new Error(`${found.length} characteristics are about "${thing}"`);
  return found[0]!;
};

export interface Question {
  /** What the characteristic that answers it is about. */
  thing: string;
  question: string;
  /** The guest's message before. */
  before?: string;
}

/** Each shares one word with the characteristic that answers it. */
export const SHARING: Question[] = [
  { thing: 'pannier', question: 'I would love a pannier, is this possible?' },
  { thing: 'tandem', question: 'My wife wishes for a tandem!' },
  { thing: 'puncture', question: 'I had a puncture. What happens now?' },
  { thing: 'lifejacket', question: 'Is a lifejacket compulsory?' },
  { thing: 'mooring', question: 'Tell me something regarding mooring' },
  { thing: 'carabiner', question: 'Do you provide a carabiner' },
  { thing: 'bruise', question: 'Who looks after my bruise?' },
  { thing: 'kiln', question: 'May I touch the kiln?' },
  { thing: 'porcelain', question: 'porcelain?' },
  { thing: 'audioguide', question: 'Does the audioguide speak Dutch?' },
  { thing: 'meteorite', question: 'My son wants to see a meteorite.' },
  { thing: 'caravan', question: 'Could we arrive in a caravan on Friday night' },
  { thing: 'hedgehog', question: 'There is a hedgehog here, help' },
  { thing: 'whirlpool', question: 'How hot does your whirlpool get?' },
  { thing: 'pregnancy', question: 'Is it ok during pregnancy?' },
  { thing: 'puck', question: 'Where would one find a puck' },
  { thing: 'sushi', question: 'I am interested in sushi, please tell me more' },
  { thing: 'gluten', question: 'I cannot eat gluten.' },
  { thing: 'customs', question: 'Do we need to go through customs?' },
  { thing: 'seasickness', question: 'What do you recommend against seasickness' },
];

/** Each has its word in another form. */
export const INFLECTED: Question[] = [
  { thing: 'helmet', question: 'Do you lend helmets to everybody?' },
  { thing: 'repair', question: 'Could somebody have this repaired?' },
  { thing: 'fishing', question: 'Would you let me fish there?' },
  { thing: 'swimming', question: 'Do people swim here?' },
  { thing: 'belaying', question: 'Has anyone belayed before?' },
  { thing: 'glaze', question: 'How is glazing done?' },
  { thing: 'restoration', question: 'What is being restored?' },
  { thing: 'sharpening', question: 'I would like to have something sharpened' },
  { thing: 'allergy', question: 'I have many allergies, what shall I do?' },
  { thing: 'departure', question: 'We are departing with our grandmother' },
];

/** Each has its word misspelt. */
export const MISSPELT: Question[] = [
  { thing: 'saddle', question: 'Is the sadle comfortable?' },
  { thing: 'handlebar', question: 'hanldebar too high, what can be done' },
  { thing: 'canoe', question: 'How does one rent a cannoe' },
  { thing: 'harness', question: 'Is a harnes included?' },
  { thing: 'sculpture', question: 'I want to make a sculpure' },
  { thing: 'dinosaur', question: 'do you show a dinosuar' },
  { thing: 'barbecue', question: 'Where is the barbeque' },
  { thing: 'eucalyptus', question: 'I like eukalyptus a lot' },
  { thing: 'certificate', question: 'Do I receive a certifcate?' },
  { thing: 'binoculars', question: 'Have you got binnoculars' },
];

/** Each can only be understood with the message before. */
export const FOLLOWING: Question[] = [
  { thing: 'lantern', before: 'Do you have a lantern for me?', question: 'And how much would it be?' },
  { thing: 'anchor', before: 'Tell me about the anchor.', question: 'And if I forget?' },
  { thing: 'knot', before: 'I never learned to tie a knot.', question: 'Can somebody show me?' },
  { thing: 'teapot', before: 'I saw a teapot in your window.', question: 'Which one is it?' },
  { thing: 'mummy', before: 'Is there really a mummy?', question: 'Since when?' },
  { thing: 'hammock', before: 'We bring a hammock.', question: 'Is that ok for you?' },
  { thing: 'birch', before: 'What is it with the birch?', question: 'Why so?' },
  { thing: 'zamboni', before: 'My daughter dreams of a zamboni.', question: 'Could she ride on it?' },
  { thing: 'mushroom', before: 'Do I have to like mushroom?', question: 'Really?' },
  { thing: 'captain', before: 'I wish to meet the captain.', question: 'When would that work?' },
];
