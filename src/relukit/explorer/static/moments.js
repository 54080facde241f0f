// Eight moments worth seeing, each a state of the page: what a link to it holds.
const settings = change => ({ data: "spiral", points: [], widths: [32, 32], activation: "relu", init: "he", lr: 0.01, momentum: true, seed: 0, events: [], ...change });
const wave = Array.from({ length: 25 }, (_, i) => { const x = -1.1 + 2.2 * i / 24; return [x, .8 * Math.sin(4 * x)]; });
const raised = settings({ data: "moons", widths: [8], events: [[140, "lr", 1]] });

export const MOMENTS = [
  ["Pieces split and merge while it trains", { view: "train", settings: settings(), step: 0, play: true }],
  ["A learning rate kills a unit at step 143", { view: "train", settings: raised, step: 146 }],
  ["The same net, the unit revived", { view: "train", settings: { ...raised, events: [[140, "lr", 1], [146, "lr", .01], [146, "revive", 0]] }, step: 200 }],
  ["Seven activations; the sigmoid fades with depth", { view: "compare", settings: settings({ widths: Array(6).fill(16) }) }],
  ["From a point to the nearest decision boundary", { view: "train", settings: settings(), step: 150, point: [.3, .2], along: 1.05 }],
  ["One piece: its formula, units and neighbors", { view: "train", settings: settings(), step: 150, point: [-.15, -.55] }],
  ["max(0, x, y): one hidden layer cannot", { view: "max", settings: settings({ data: "max", widths: [8] }), step: 300 }],
  ["max(0, x, y): two can", { view: "max", settings: settings({ data: "max", widths: [8, 8], events: [[0, "construct", 0]] }), step: 0 }],
  ["A curve becomes a network, hinge by hinge", { view: "curve", drawn: wave, shown: 9 }],
  ["A network opened: listing, health, plane, flip", { view: "open", trained: true, settings: settings({ data: "moons", widths: [16, 16] }), step: 150 }],
];
