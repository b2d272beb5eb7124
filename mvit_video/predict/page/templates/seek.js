// `element` is the component that holds the chart, whose contents come and go with each video.
const film = () => document.querySelector('#film video');
element.addEventListener('click', event => {
  const plot = event.target.closest('.plot');
  if (!plot || !film()) return;
  const button = event.target.closest('button');
  const box = plot.getBoundingClientRect();
  const share = (event.clientX - box.left) / box.width;
  const fromKeyboard = button && event.detail === 0;
  const duration = Number(plot.closest('.timeline').dataset.duration);
  film().currentTime = fromKeyboard ? Number(button.dataset.seconds) : share * duration;
});
document.addEventListener('timeupdate', event => {  // it does not bubble, but it can be caught on its way down
  const timeline = element.querySelector('.timeline');
  if (!timeline || event.target !== film()) return;
  const share = Math.min(film().currentTime / Number(timeline.dataset.duration), 1);
  for (const head of timeline.querySelectorAll('.playhead')) head.style.left = `${100 * share}%`;
}, true);
